//! The command line.

mod hyphens;

use crate::keys::{KEYS, Key, Kind};
use crate::layers::{DEFAULTS, Values, defaults, nearest};
use crate::{Program, Refusal};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;
use std::path::PathBuf;
use toml::Value;

/// What the command line says.
pub(crate) struct Flags {
    /// The file given with `--config`.
    pub config: Option<PathBuf>,
    pub values: Values,
}

pub(crate) fn parse(
    program: &Program,
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Flags, Refusal> {
    let args = hyphens::joined(args.into_iter().map(Into::into))?;
    let matches = command(program)?
        .try_get_matches_from(std::iter::once(OsString::from(program.name())).chain(args))
        .map_err(|error| refusal(program, &error))?;

    let mut values = Values::default();
    for key in KEYS.iter().filter(|key| key.is_flag()) {
        let Some(text) = matches.get_one::<String>(key.name) else { continue };
        let (name, step) = (key.name, program.name());
        if key.since > program.step {
            let sentence =
                format!("--{name} comes with step{:02}: {step} has no such flag", key.since);
            return Err(Refusal::Invalid(sentence));
        }
        let value = key
            .check(key.read_flag(text))
            .map_err(|need| Refusal::Invalid(format!("--{name} is {}, but {need}", shown(text))))?;
        values.insert(key, value);
    }
    let config = matches.get_one::<String>("config").map(PathBuf::from);
    Ok(Flags { config, values })
}

/// In quotes if it needs them, so that a sentence stays one line.
pub(crate) fn shown(text: &str) -> String {
    if text.is_empty() || text.contains(char::is_whitespace) {
        format!("{text:?}")
    } else {
        text.to_owned()
    }
}

fn command(program: &Program) -> Result<Command, Refusal> {
    let defaults = defaults(program)?;
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help(format!("Settings in TOML, laid over {DEFAULTS}; flags are laid over both"));
    let flags = KEYS.iter().filter(|key| key.is_flag()).map(|key| flag(program, &defaults, key));
    Ok(Command::new(program.name())
        .about(program.about)
        // Of a flag given twice the last one counts, so a script can append to the flags that it
        // was given.
        .args_override_self(true)
        .term_width(100)
        .disable_help_flag(true)
        .arg(config)
        .args(flags)
        .arg(Arg::new("help").long("help").short('h').action(ArgAction::Help).help("Print this")))
}

fn flag(program: &Program, defaults: &Values, key: &Key) -> Arg {
    let help = match defaults.get(key.name) {
        None | Some(Value::Boolean(_)) => key.help.to_owned(),
        Some(Value::String(word)) if key.kind != Kind::Text => format!("{} [{word}]", key.help),
        Some(default) => format!("{} [{default}]", key.help),
    };
    let arg = Arg::new(key.name)
        .long(key.name)
        .help(help)
        .help_heading(heading(key.table))
        // Known to every step, so that one that comes later can be told from a typo.
        .hide(key.since > program.step);
    match key.kind {
        // `--shuffle` is enough, but `--shuffle=false` can overrule a file.
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false"),
        _ => arg.value_name(key.value),
    }
}

fn heading(table: &str) -> String {
    format!("[{table}]")
}

/// One sentence for what clap says in several lines.
fn refusal(program: &Program, error: &clap::Error) -> Refusal {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let arg = context(ContextKind::InvalidArg);
    let flag = arg.split_whitespace().next().unwrap_or_default();
    Refusal::Invalid(match error.kind() {
        ErrorKind::DisplayHelp => return Refusal::Help(error.render().to_string()),
        ErrorKind::UnknownArgument if arg.starts_with("--") => {
            let known = KEYS.iter().filter(|key| key.is_flag() && key.since <= program.step);
            match nearest(&arg[2..], known.map(|key| key.name).chain(["config", "help"])) {
                Some(name) => format!("unknown flag {arg}: did you mean --{name}?"),
                None => format!("unknown flag {arg}: {} --help lists them all", program.name()),
            }
        }
        ErrorKind::UnknownArgument => {
            format!("unexpected argument {arg:?}: settings are flags, such as --steps 10")
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
            format!("{flag} needs a value")
        }
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8".into(),
        _ => {
            let text = error.render().to_string();
            text.lines().next().unwrap_or_default().trim_start_matches("error: ").into()
        }
    })
}
