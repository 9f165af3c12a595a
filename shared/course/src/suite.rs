//! A whole test file, with progress.

use std::time::Duration;

use anyhow::Result;
use console::Term;

use crate::harness::Built;
use crate::process::{Line, Runner};
use crate::said;

/// A suite is stuck if no test of it ends for so long.
const PATIENCE: Duration = Duration::from_secs(900);

/// What a suite did.
pub struct Suite {
    pub passed: usize,
    pub failed: Vec<String>,
    pub is_green: bool,
    /// Of the first failure.
    pub said: Vec<String>,
    pub took: Duration,
}

/// Runs all tests of a file.
pub fn run(runner: &Runner, built: &Built, name: &str) -> Result<Suite> {
    let secret = tempfile::tempdir()?;
    let log = secret.path().join("verdict");
    let mut command = built.command();
    command.arg("--logfile").arg(&log);
    let term = Term::stdout();
    let (mut done, mut of) = (0, 0);
    let ended = runner.run(&mut command, PATIENCE, |line| {
        let Line::Out(line) = line else { return false };
        if let Some(rest) = line.strip_prefix("running ") {
            of = rest.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or(0);
        }
        let ends =
            line.starts_with("test ") && [" ok", " FAILED"].iter().any(|it| line.ends_with(it));
        done += usize::from(ends);
        if ends && term.is_term() {
            let _ = term.clear_line();
            let _ = term.write_str(&format!("  … {name}: {done} of {of} tests"));
        }
        ends
    })?;
    if term.is_term() {
        let _ = term.clear_line();
    }
    let logged = std::fs::read_to_string(&log).unwrap_or_default();
    let of_kind = |kind: &str| -> Vec<String> {
        let lines = logged.lines().filter_map(|line| line.strip_prefix(kind));
        lines.map(|it| it.trim().to_owned()).collect()
    };
    let (passed, failed) = (of_kind("ok ").len(), of_kind("failed "));
    let is_whole = ended.stdout.lines().any(|line| line.starts_with("test result: ok. "));
    let is_green = ended.status.is_some_and(|status| status.success())
        && failed.is_empty()
        && is_whole
        && logged.lines().filter(|line| !line.trim().is_empty()).count() == of;
    let mut said = match failed.first() {
        Some(first) => said::essential("", &of_test(&ended.stdout, first), first),
        None => Vec::new(),
    };
    if ended.status.is_none() {
        said.insert(0, format!("no test of it ended within {} s", PATIENCE.as_secs()));
    } else if !is_green && said.is_empty() {
        said = said::essential(&ended.stdout, &ended.stderr, "");
    }
    Ok(Suite { passed, failed, is_green, said, took: ended.took })
}

/// What stands below `---- NAME stdout ----`.
fn of_test(stdout: &str, name: &str) -> String {
    let head = format!("---- {name} stdout ----");
    let lines = stdout.lines().skip_while(|line| **line != head).skip(1);
    lines.take_while(|line| !line.starts_with("---- ")).collect::<Vec<_>>().join("\n")
}
