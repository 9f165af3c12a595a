//! A step's `main`.

use crate::{Settings, Start, parse};
use comm::Layout;
use launch::{Launcher, Signals, Stopped};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// What a step's binary says about itself.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// From 1 to 6.
    pub step: u8,
    /// One line for `--help`.
    pub about: &'static str,
    /// The layout of a run that does not set it.
    pub layout: Layout,
}

impl Program {
    pub(crate) fn name(&self) -> String {
        format!("step{:02}", self.step)
    }
}

/// Why a run does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `--help` was asked for; this is the text.
    #[error("{0}")]
    Help(String),
    /// One sentence that names the setting, its value and what would do.
    #[error("{0}")]
    Invalid(String),
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Invalid(format!("{error:#}"))
    }
}

/// A step's `main`: settings; then what `open` opens once for all ranks of this process, such as
/// the data; then the run. Exit code 0, 2 for settings or files that cannot work, 1 for a run that
/// fails, with one line: `error: what: why: why`. A run that a signal has ended early, and that has
/// saved, ends as shells say it of that signal: with 128 and its number, 143 for SIGTERM.
pub fn main<C: Settings, T>(
    program: Program,
    open: impl FnOnce(&mut Start<C>) -> anyhow::Result<T>,
    run: impl FnOnce(Start<C>, T) -> anyhow::Result<()>,
) -> ExitCode {
    let (start, opened) = match prepared(&program, open) {
        Ok(prepared) => prepared,
        Err(Refusal::Help(text)) => {
            // A reader that closes the pipe early has read enough.
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Refusal::Invalid(sentence)) => {
            // A mistake in the settings of all ranks is one of rank 0's too. A launcher ends the
            // others once rank 0 has failed, so that the sentence is printed once and not a
            // thousand times.
            if std::env::var("RANK").is_ok_and(|rank| rank != "0") {
                std::thread::sleep(Duration::from_secs(2));
            }
            eprintln!("error: {}", in_one_line(&sentence));
            return ExitCode::from(2);
        }
    };
    if is_first_process(variable) {
        start.notes.iter().for_each(|note| eprintln!("warning: {}", in_one_line(note)));
    }
    let save = start.config.extras().save.map(Path::to_owned);
    match launch::in_one_sentence(|| run(start, opened)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(stopped) = error.downcast_ref::<Stopped>() {
                return early(stopped, &save.unwrap_or_default());
            }
            eprintln!("error: {}", in_one_line(&format!("{error:#}")));
            launch::end_process()
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// All that may be refused.
fn prepared<C: Settings, T>(
    program: &Program,
    open: impl FnOnce(&mut Start<C>) -> anyhow::Result<T>,
) -> Result<(Start<C>, T), Refusal> {
    let mut start = parse::<C>(program, std::env::args_os().skip(1), variable)?;
    let opened = open(&mut start)?;
    start.launch.signals = Signals::heed(start.config.extras().save.is_some());
    // A rank that the processes launcher has started tells that launcher, and not everybody.
    if !Launcher::has_started(variable) {
        start.launch.signals.check()?;
    }
    Ok((start, opened))
}

/// Whether this process is the one that speaks for the run: all ranks read the same settings.
fn is_first_process(env: impl Fn(&str) -> Option<String>) -> bool {
    !Launcher::has_started(&env) && env("RANK").is_none_or(|rank| rank == "0")
}

/// A run that a signal has ended, after it has saved to `save`.
fn early(stopped: &Stopped, save: &Path) -> ExitCode {
    if stopped.leader {
        let dir = save.display();
        let sentence = format!("{stopped}, and saved: --resume {dir} goes on from there");
        eprintln!("{}", in_one_line(&sentence));
    }
    ExitCode::from(u8::try_from(128 + stopped.signal).unwrap_or(1))
}

/// A file's name may have line breaks in it, or what a terminal takes for a command.
fn in_one_line(sentence: &str) -> String {
    let escaped = |c: char| {
        if c.is_control() { c.escape_default().to_string() } else { c.to_string() }
    };
    sentence.chars().map(escaped).collect()
}
