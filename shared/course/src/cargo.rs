//! Builds a test file through cargo, and says what the compiler says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use console::Term;
use serde_json::Value;

use crate::harness::Built;
use crate::process::{Line, Runner};

/// How a build ended.
pub enum Build {
    Ready(Built),
    Broken(Broken),
}

/// What the compiler said.
pub struct Broken {
    /// Its errors, as it shows them to a person. Warnings are left out.
    pub shown: String,
    /// File and line of each error.
    pub at: Vec<(PathBuf, usize)>,
}

/// Where a build takes place.
pub struct Place {
    pub root: PathBuf,
    /// A folder for what is built that is not cargo's own choice.
    pub target: Option<PathBuf>,
    /// What the build is told besides.
    pub variables: Vec<(String, PathBuf)>,
}

impl Place {
    /// The checkout itself.
    pub fn of(root: &Path) -> Self {
        Self { root: root.to_owned(), target: None, variables: Vec::new() }
    }
}

/// No build takes so long, not even the first.
const LIMIT: Duration = Duration::from_secs(3600);

/// `cargo test -p PACKAGE --test TEST --no-run`.
pub fn build(runner: &Runner, place: &Place, package: &str, test: &str) -> Result<Build> {
    let term = Term::stdout();
    let is_colour = console::colors_enabled();
    let format = if is_colour { "json-diagnostic-rendered-ansi" } else { "json" };
    let mut command = cargo(&place.root);
    command.envs(place.variables.iter().map(|(name, value)| (name, value)));
    if let Some(target) = &place.target {
        command.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR");
        command.arg("test").arg("--target-dir").arg(target);
    } else {
        command.arg("test");
    }
    command.args(["--no-run", "-p", package, "--test", test]);
    command.arg(format!("--message-format={format}"));
    let (mut built, mut broken) = (None, Broken { shown: String::new(), at: Vec::new() });
    let ended = runner.run(&mut command, LIMIT, |line| {
        match line {
            Line::Err(line) => {
                let line = line.trim();
                let is_news = ["Compiling", "Blocking", "Downloading"];
                if term.is_term() && is_news.iter().any(|word| line.contains(word)) {
                    let _ = term.clear_line();
                    let width = usize::from(term.size().1).saturating_sub(6);
                    let line = console::strip_ansi_codes(line).into_owned();
                    let shown = console::truncate_str(&line, width, "…");
                    let _ = term.write_str(&format!("  … {shown}"));
                }
            }
            Line::Out(line) => {
                let Ok(message) = serde_json::from_str::<Value>(line) else { return false };
                built = artifact(&message, test).or(built.take());
                error(&message, &mut broken);
            }
        }
        false
    })?;
    if term.is_term() {
        let _ = term.clear_line();
    }
    let Some(status) = ended.status else { bail!("the build did not end in {LIMIT:?}") };
    if status.success() {
        let built = built.with_context(|| format!("package {package} has no test file {test}"))?;
        return Ok(Build::Ready(built));
    }
    if broken.shown.is_empty() {
        // Not the compiler's words: a manifest, a linker, a missing package.
        bail!("cargo test -p {package} --test {test} --no-run:\n{}", ended.stderr.trim());
    }
    Ok(Build::Broken(broken))
}

/// cargo, without what an outer `cargo run` told this program.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(root);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_outer = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if is_outer.iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    command
}

/// What cargo says of the packages of the checkout.
pub fn metadata(root: &Path) -> Result<Value> {
    let mut command = cargo(root);
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = command.output().context("cargo cannot be started")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn artifact(message: &Value, test: &str) -> Option<Built> {
    let target = &message["target"];
    let is_test =
        target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|it| it == "test"));
    if message["reason"] != "compiler-artifact" || !is_test || target["name"] != test {
        return None;
    }
    let binary = PathBuf::from(message["executable"].as_str()?);
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    Some(Built { binary, folder })
}

fn error(message: &Value, broken: &mut Broken) {
    let said = &message["message"];
    let is_sum = said["message"].as_str().is_some_and(|it| it.starts_with("aborting due to"));
    if message["reason"] != "compiler-message" || said["level"] != "error" || is_sum {
        return;
    }
    broken.shown += said["rendered"].as_str().unwrap_or_default();
    for span in said["spans"].as_array().into_iter().flatten().filter(|it| it["is_primary"] == true)
    {
        let line = span["line_start"].as_u64().unwrap_or(0) as usize;
        let file = span["file_name"].as_str().unwrap_or_default();
        broken.at.push((PathBuf::from(file), line));
    }
}
