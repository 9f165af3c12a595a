//! Values that begin with a hyphen, such as the prompt `- milk` or the rate `-inf`.

use crate::keys::Keys;
use crate::kinds::Kind;
use crate::{Program, Refusal, later};
use std::ffi::{OsStr, OsString};

/// Joins a flag and such a value, as `--prompt=- milk`: clap would take the value for flags. What
/// looks like a flag (`--steps`, `-h`) stays one.
///
/// # Errors
/// If a flag for text is followed by what looks like a flag, but is none.
pub(super) fn joined(
    program: &Program,
    keys: &Keys,
    args: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, Refusal> {
    let is_known = |name: &str| {
        let is_flag = || keys.flags().any(|key| key.name == name);
        ["config", "help"].contains(&name) || is_flag() || later::find(program.step, name).is_some()
    };
    let mut args = args.into_iter().peekable();
    let mut all = vec![];
    while let Some(mut arg) = args.next() {
        let has_hyphen = |value: &OsString| value.as_encoded_bytes().starts_with(b"-");
        if let Some(takes) = takes_value(keys, &arg)
            && let Some(value) = args.next_if(has_hyphen)
        {
            match flag_name(&value, is_known) {
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
fn takes_value(keys: &Keys, arg: &OsStr) -> Option<Takes> {
    let name = arg.to_str()?.strip_prefix("--")?;
    if name == "config" {
        return Some(Takes::Text);
    }
    match keys.flags().find(|key| key.name == name)?.kind {
        Kind::Switch => None,
        Kind::Text | Kind::Path => Some(Takes::Text),
        _ => Some(Takes::Other),
    }
}

/// The name in `--name`, `--name=value` or `-h`; `None` if it is not written as a flag, or has
/// several words and is not the name of one.
fn flag_name(arg: &OsStr, is_known: impl Fn(&str) -> bool) -> Option<&str> {
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
