//! Recorded output: the commands of `book/runs.toml`, what they printed, and whether they still do.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde::Deserialize;

use crate::code::part;
use crate::directive::Directive;
use crate::listing::escaped;

/// `book/runs.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Runs {
    /// Regular expressions for what differs between machines, such as speeds. Not compared.
    mask: Vec<String>,
    #[serde(default)]
    run: Vec<Run>,
    #[serde(default)]
    trace: Vec<TraceRun>,
}

/// A command that writes a trace, from which `{{#timeline}}` draws, or a drawing of its own, which
/// `{{#svg}}` shows. Times differ on every machine, so it is never compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceRun {
    name: String,
    command: String,
    /// What the command writes; kept as `book/runs/NAME.json`, or with the extension that it has.
    file: String,
}

/// One recorded command.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    /// The record is `book/runs/NAME.txt`.
    name: String,
    /// Run by `sh` in the root of the repository; its standard output is recorded.
    command: String,
    /// Largest relative difference between two numbers that counts as the same.
    tolerance: f64,
    /// Lines that contain one of these are not compared.
    #[serde(default)]
    ignore: Vec<String>,
}

impl Runs {
    fn load(book: &Path) -> Result<Self> {
        let path = book.join("runs.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }
}

/// `{{#run NAME}}` shows a recorded command and its output; `from`, `to` and `line` choose a part.
///
/// # Errors
/// When it is not recorded, or recorded with another command.
pub fn show(ask: &Directive, book: &Path) -> Result<String> {
    let [name] = ask.shape(["name"], &["from", "to", "line"])?;
    let runs = Runs::load(book)?;
    let run = runs.run.iter().find(|run| run.name == name);
    let run = run.with_context(|| format!("book/runs.toml lists no run `{name}`"))?;
    let text = std::fs::read_to_string(record_path(book, name))
        .with_context(|| format!("`{name}` is not recorded; `cargo run -p book -- record`"))?;
    let (command, output) = text.split_once('\n').unwrap_or((&text, ""));
    if command != format!("$ {}", run.command) {
        bail!("`{name}` was recorded with another command; record it again");
    }
    let lines = part(output, ask)?;
    let rows: String = lines
        .iter()
        .map(|line| format!("<span class=\"row\">{}\n</span>", escaped(line)))
        .collect();
    Ok(format!(
        "<figure class=\"listing run\"><figcaption><span class=\"file\">{}</span></figcaption>\
         <pre tabindex=\"0\" role=\"region\" aria-label=\"output\">{rows}</pre></figure>\n",
        words(command)
    ))
}

/// A command of which a narrow screen breaks no word, if one has room: `--steps` has hyphens.
fn words(command: &str) -> String {
    let word = |word: &str| format!("<span class=\"word\">{}</span>", escaped(word));
    command.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn record_path(book: &Path, name: &str) -> std::path::PathBuf {
    book.join("runs").join(format!("{name}.txt"))
}

/// Where the trace of a recorded run is kept.
pub(crate) fn trace_path(book: &Path, name: &str) -> std::path::PathBuf {
    book.join("runs").join(format!("{name}.json"))
}

/// Runs every command, or the one called `only`, and writes what it prints.
pub fn record(root: &Path, only: Option<&str>) -> Result<()> {
    let book = root.join("book");
    let Runs { run: runs, trace: traces, .. } = Runs::load(&book)?;
    if let Some(trace) = traces.iter().find(|trace| only == Some(&trace.name)) {
        return record_trace(root, trace);
    }
    for run in selected(runs, only)? {
        let text = format!("$ {}\n{}", run.command, output(root, &run.command)?);
        let path = record_path(&book, &run.name);
        std::fs::create_dir_all(book.join("runs"))?;
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        println!("recorded {}", run.name);
    }
    Ok(())
}

/// Runs a command for the trace that it writes. Only when asked for by name: it wants
/// an idle machine.
fn record_trace(root: &Path, trace: &TraceRun) -> Result<()> {
    output(root, &trace.command)?;
    let written = root.join(&trace.file);
    let kept = trace_path(&root.join("book"), &trace.name);
    std::fs::copy(&written, kept.with_extension(written.extension().unwrap_or_default()))
        .with_context(|| format!("keeping the trace {}", trace.file))?;
    println!("recorded {}", trace.name);
    Ok(())
}

/// Runs every command again, or the one called `only`, and compares.
///
/// # Errors
/// When an output differs by more than its tolerance; the message lists the lines.
pub fn check(root: &Path, only: Option<&str>) -> Result<()> {
    let book = root.join("book");
    let runs = Runs::load(&book)?;
    let mask = patterns(&runs.mask)?;
    let mut problems = Vec::new();
    for run in selected(runs.run, only)? {
        let path = record_path(&book, &run.name);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let recorded = text.split_once('\n').map_or("", |(_, output)| output);
        let ignore = patterns(&run.ignore)?;
        let fresh = output(root, &run.command)?;
        let found = differences(recorded, &fresh, &mask, &ignore, run.tolerance);
        println!("{} {}", if found.is_empty() { "same" } else { "DIFFERS" }, run.name);
        problems.extend(found.into_iter().map(|line| format!("{}: {line}", run.name)));
    }
    if !problems.is_empty() {
        bail!("output that the book quotes has changed:\n  {}", problems.join("\n  "));
    }
    Ok(())
}

fn selected(runs: Vec<Run>, only: Option<&str>) -> Result<Vec<Run>> {
    let Some(only) = only else { return Ok(runs) };
    let runs: Vec<Run> = runs.into_iter().filter(|run| run.name == only).collect();
    if runs.is_empty() {
        bail!("book/runs.toml lists no run `{only}`");
    }
    Ok(runs)
}

fn patterns(texts: &[String]) -> Result<Vec<Regex>> {
    texts.iter().map(|text| Regex::new(text).with_context(|| format!("pattern `{text}`"))).collect()
}

fn output(root: &Path, command: &str) -> Result<String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(root).stdin(Stdio::null()).stderr(Stdio::inherit());
    let done = shell.output().with_context(|| format!("running `{command}`"))?;
    if !done.status.success() {
        bail!("`{command}` ended with {}", done.status);
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The lines in which two outputs differ: in their words, or in a number by more than `tolerance`.
fn differences(
    recorded: &str,
    fresh: &str,
    mask: &[Regex],
    ignore: &[Regex],
    tolerance: f64,
) -> Vec<String> {
    let kept = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !ignore.iter().any(|p| p.is_match(line)));
        lines
            .map(|line| {
                mask.iter().fold(line.to_owned(), |l, p| p.replace_all(&l, "…").into_owned())
            })
            .collect()
    };
    let (recorded, fresh) = (kept(recorded), kept(fresh));
    let mut found: Vec<String> = recorded
        .iter()
        .zip(&fresh)
        .filter(|(a, b)| !same(a, b, tolerance))
        .map(|(a, b)| format!("recorded `{a}`, now `{b}`"))
        .collect();
    if recorded.len() != fresh.len() {
        found.push(format!("recorded {} lines, now {}", recorded.len(), fresh.len()));
    }
    found
}

fn same(a: &str, b: &str, tolerance: f64) -> bool {
    let words =
        |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    let (a, b) = (words(a), words(b));
    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a == b || close(a, b, tolerance))
}

/// Whether two words are the same but for numbers within `tolerance` of each other.
fn close(a: &str, b: &str, tolerance: f64) -> bool {
    let Ok(number) = Regex::new(r"[0-9][0-9,]*(\.[0-9]+)?([eE][-+]?[0-9]+)?") else { return false };
    let values = |text: &str| -> Vec<f64> {
        number.find_iter(text).filter_map(|m| m.as_str().replace(',', "").parse().ok()).collect()
    };
    let (x, y) = (values(a), values(b));
    let near = |(x, y): (&f64, &f64)| (x - y).abs() <= tolerance * x.abs().max(y.abs());
    number.replace_all(a, "0") == number.replace_all(b, "0")
        && x.len() == y.len()
        && x.iter().zip(&y).all(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = "step 1  loss 5.5451  1,024 tokens/s\nOnce upon a time\n";

    fn compare(fresh: &str, tolerance: f64) -> usize {
        let mask = patterns(&["[0-9,.]+ tokens/s".to_owned()]).unwrap();
        let ignore = patterns(&["^Once".to_owned()]).unwrap();
        differences(RECORDED, fresh, &mask, &ignore, tolerance).len()
    }

    #[test]
    fn speeds_and_ignored_lines_may_differ() {
        assert_eq!(compare("step 1  loss 5.5451  88 tokens/s\nOnce more\n", 0.0), 0);
    }

    #[test]
    fn numbers_are_held_to_the_tolerance() {
        assert_eq!(compare("step 1  loss 5.5452  1 tokens/s\n", 1e-4), 0);
        assert_eq!(compare("step 1  loss 5.5462  1 tokens/s\n", 1e-4), 1);
        assert_eq!(compare("step 1  loss 55451  1 tokens/s\n", 1e-4), 1);
    }

    #[test]
    fn words_and_missing_lines_differ() {
        assert_eq!(compare("step 1  loss nan  1 tokens/s\n", 1.0), 1);
        assert_eq!(compare("", 1.0), 1);
    }
}
