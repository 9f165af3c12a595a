//! Values that begin with a hyphen, such as the prompt `- milk` or the rate `-inf`.

use crate::Refusal;
use crate::keys::{KEYS, Kind, find};
use std::ffi::{OsStr, OsString};

/// Joins a flag and such a value, as `--prompt=- milk`: clap would take the value for flags. What
/// looks like a flag (`--steps`, `-h`) stays one.
///
/// # Errors
/// If a flag for text is followed by what looks like a flag, but is none.
pub(super) fn joined(args: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, Refusal> {
    let mut args = args.into_iter().peekable();
    let mut all = vec![];
    while let Some(mut arg) = args.next() {
        let has_hyphen = |value: &OsString| value.as_encoded_bytes().starts_with(b"-");
        if let Some(takes) = takes_value(&arg)
            && let Some(value) = args.next_if(has_hyphen)
        {
            match flag_name(&value) {
                Some(name) if takes == Takes::Text && !is_known(name) => {
                    let (arg, value) = (arg.display(), value.display());
                    return Err(Refusal::Invalid(format!(
                        "unknown flag {value}: if it is the value of {arg}, write {arg}={value}"
                    )));
                }
                Some(_) => {
                    all.push(std::mem::replace(&mut arg, value)); // clap will miss the value
                }
                None => {
                    arg.push("=");
                    arg.push(value);
                }
            }
        }
        all.push(arg);
    }
    Ok(all)
}

/// What a flag takes for its value.
#[derive(PartialEq)]
enum Takes {
    Text,
    /// A number, or one of a few words.
    Other,
}

/// What `arg` takes if it is a flag whose value is the next argument.
fn takes_value(arg: &OsStr) -> Option<Takes> {
    let name = arg.to_str()?.strip_prefix("--")?;
    if name == "config" {
        return Some(Takes::Text);
    }
    let key = find(name).filter(|key| key.is_flag() && key.kind != Kind::Switch)?;
    Some(if key.kind == Kind::Text { Takes::Text } else { Takes::Other })
}

/// The name in `--name`, `--name=value` or `-h`; `None` if it is not written as a flag, or has several
/// words and is not the name of one.
fn flag_name(arg: &OsStr) -> Option<&str> {
    let Some(name) = arg.to_str()?.strip_prefix("--") else {
        return (arg == "-h").then_some("help");
    };
    let (name, value) = name.split_once('=').unwrap_or((name, ""));
    if value.contains(char::is_whitespace) && !is_known(name) {
        return None;
    }
    let of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(of_name))
        .then_some(name)
}

fn is_known(name: &str) -> bool {
    let mut flags = KEYS.iter().filter(|key| key.is_flag()).map(|key| key.name);
    ["config", "help"].contains(&name) || flags.any(|flag| flag == name)
}

#[cfg(test)]
mod tests {
    use crate::{Program, RunConfig};
    use comm::Layout;
    use std::path::PathBuf;

    fn parse(args: &[&str]) -> RunConfig {
        let program = Program { step: 6, about: "", layout: Layout::default() };
        crate::parse(&program, args, |_| None).unwrap().run
    }

    #[test]
    fn a_text_may_begin_with_a_hyphen() {
        let texts =
            ["- x", "-x", "--", "-", "-h x", "--Why", "-- once", "--so it is", "-1", "--a=b c"];
        for text in texts {
            assert_eq!(parse(&["--steps", "3", "--prompt", text, "--lr", "1"]).prompt, text);
        }
        assert_eq!(parse(&["--prompt=--steps"]).prompt, "--steps");
    }

    #[test]
    fn a_path_may_begin_with_a_hyphen() {
        let args = ["--dry-run", "--save", "-s", "--trace", "-t.json", "--metrics", "--m.jsonl"];
        let RunConfig { save, trace, metrics, .. } = parse(&args);
        let paths = [save, trace, metrics].map(|path| path.unwrap());
        assert_eq!(paths, ["-s", "-t.json", "--m.jsonl"].map(PathBuf::from));
    }
}
