//! The command line.

mod hyphens;

use crate::keys::Keys;
use crate::kinds::Kind;
use crate::layers::{DEFAULTS, Values, nearest};
use crate::{Program, Refusal, Settings, later};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, value_parser};
use std::ffi::OsString;
use std::path::PathBuf;
use toml::Value;

/// What the command line says.
pub(crate) struct Flags {
    /// The file given with `--config`.
    pub config: Option<PathBuf>,
    pub values: Values,
}

/// `defaults` are shown by `--help`.
pub(crate) fn parse<C: Settings>(
    program: &Program,
    keys: &Keys,
    defaults: &Values,
    args: impl IntoIterator<Item = impl Into<OsString>>,
) -> Result<Flags, Refusal> {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    tokenize(&args)?;
    let args = hyphens::joined(program, keys, args)?;
    let matches = command::<C>(program, keys, defaults)
        .try_get_matches_from(std::iter::once(OsString::from(program.name())).chain(args))
        .map_err(|error| refusal(program, keys, &error))?;

    let mut values = Values::default();
    for key in keys.flags() {
        let Some(text) = matches.get_one::<String>(&key.id) else { continue };
        let value = key.kind.check(key.kind.read(text)).map_err(|need| {
            Refusal::Invalid(format!("--{} is {}, but {need}", key.name, shown(text)))
        })?;
        values.insert(&key.name, value);
    }
    let config = matches.get_one::<String>("config").map(PathBuf::from);
    Ok(Flags { config, values })
}

/// `--tokenize` is no step's: what reads Parquet brings many crates along.
fn tokenize(args: &[OsString]) -> Result<(), Refusal> {
    if !args.iter().any(|arg| arg == "--tokenize") {
        return Ok(());
    }
    let rest = args.iter().filter(|arg| *arg != "--tokenize").map(|arg| arg.to_string_lossy());
    let mut command = "cargo run -p tokenize --".to_owned();
    rest.for_each(|arg| command += &format!(" {}", shown(&arg)));
    Err(Refusal::Invalid(format!("--tokenize is a program of its own: {command}")))
}

/// In quotes if it needs them, so that a sentence stays one line.
pub(crate) fn shown(text: &str) -> String {
    if text.is_empty() || text.contains(char::is_whitespace) {
        format!("{text:?}")
    } else {
        text.to_owned()
    }
}

/// The step's flags as it declares them, but as layers of settings need them: none is
/// required, none has a default that would hide whether it was given, and all are text, which
/// this crate reads.
fn command<C: Settings>(program: &Program, keys: &Keys, defaults: &Values) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help(format!("Settings in TOML, laid over {DEFAULTS}; flags are laid over both"));
    let command = Command::new(program.name())
        // Of a flag given twice the last one counts, so a script can append to the flags
        // that it was given.
        .args_override_self(true)
        .term_width(100)
        .disable_help_flag(true)
        .arg(config);
    let help = Arg::new("help").long("help").short('h').action(ArgAction::Help);
    C::augment_args(command)
        .about(program.about) // not what the struct says of itself
        .mut_args(|arg| match arg.get_long().and_then(|name| keys.find(name)) {
            Some(key) => flag(arg, &key.kind, defaults.get(&key.name)),
            None => arg,
        })
        .arg(help.help("Print this").help_heading(None))
}

fn flag(arg: Arg, kind: &Kind, default: Option<&Value>) -> Arg {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let help = match default {
        None | Some(Value::Boolean(_)) => help,
        Some(Value::String(word)) if *kind != Kind::Text => format!("{help} [{word}]"),
        Some(default) => format!("{help} [{default}]"),
    };
    let arg =
        arg.help(help).required(false).default_value(None).value_parser(value_parser!(String));
    match kind {
        // `--shuffle` is enough, but `--shuffle=false` can overrule a file.
        Kind::Switch => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("true|false"),
        _ => arg,
    }
}

/// One sentence for what clap says in several lines.
fn refusal(program: &Program, keys: &Keys, error: &clap::Error) -> Refusal {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let arg = context(ContextKind::InvalidArg);
    let flag = arg.split_whitespace().next().unwrap_or_default();
    Refusal::Invalid(match error.kind() {
        ErrorKind::DisplayHelp => return Refusal::Help(error.render().to_string()),
        ErrorKind::UnknownArgument if arg.starts_with("--") => {
            let known = keys.flags().map(|key| key.name.as_str()).chain(["config", "help"]);
            let step = program.name();
            match (later::find(program.step, &arg[2..]), nearest(&arg[2..], known)) {
                (Some(later), _) => {
                    format!("{arg} comes with step{:02}: {step} has no such flag", later.since)
                }
                (None, Some(name)) => format!("unknown flag {arg}: did you mean --{name}?"),
                (None, None) => format!("unknown flag {arg}: {step} --help lists them all"),
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
