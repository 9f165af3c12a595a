//! One test, by its exact name, in a process of its own.
//!
//! The verdict is the harness', and nothing that the tested code prints or does can replace it: libtest writes it to a
//! file whose name is drawn anew for each test and is known to no one inside, besides its last line on standard
//! output and its exit code. All three must say the same.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::process::Runner;
use crate::said;

/// A test file that was built.
#[derive(Debug, Clone)]
pub struct Built {
    pub binary: PathBuf,
    /// Where cargo runs tests: the folder of their package.
    pub folder: PathBuf,
}

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Green,
    /// The essential lines of what it said.
    Red(Vec<String>),
    /// It did not end in so many seconds.
    Stuck(u64),
}

/// What a test did.
pub struct Ran {
    pub verdict: Verdict,
    pub took: Duration,
    /// All that it printed.
    pub said: String,
}

impl Built {
    /// A command that runs tests of this file.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command.env("RUST_BACKTRACE", "0").env_remove("RUST_TEST_THREADS");
        command
    }

    /// Runs the test `name` for at most `seconds`.
    pub fn run(&self, runner: &Runner, name: &str, seconds: u64) -> Result<Ran> {
        let secret = tempfile::tempdir()?;
        let log = secret.path().join("verdict");
        let mut command = self.command();
        command.args(["--exact", name, "--include-ignored", "--nocapture", "--logfile"]).arg(&log);
        let ended = runner.run(&mut command, Duration::from_secs(seconds), |_| false)?;
        let (stdout, stderr) = (&ended.stdout, &ended.stderr);
        let said = format!("{stdout}\n{stderr}");
        let logged = fs::read_to_string(&log).unwrap_or_default();
        let last = stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let verdict = match ended.status {
            None => Verdict::Stuck(seconds),
            Some(status) => {
                let is_summed_up = last.starts_with("test result: ok. 1 passed; 0 failed;");
                if status.success() && logged.trim() == format!("ok {name}") && is_summed_up {
                    Verdict::Green
                } else if status.success() {
                    let what = if stdout.contains("running 0 tests") {
                        format!("there is no test `{name}` in {}", self.binary.display())
                    } else {
                        "the process ended before the test did: it counts as failed".to_owned()
                    };
                    Verdict::Red(vec![what])
                } else {
                    let mut lines = said::essential(stdout, stderr, name);
                    if logged.trim() != format!("failed {name}") {
                        lines
                            .insert(0, format!("the process ended before the test did ({status})"));
                    }
                    Verdict::Red(lines)
                }
            }
        };
        Ok(Ran { verdict, took: ended.took, said })
    }
}
