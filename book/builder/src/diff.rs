//! What changes in one file between two steps, as lines and hunks.

use std::collections::BTreeSet;
use std::ops::Range;

use similar::{Algorithm, ChangeTag, TextDiff};

use crate::steps::Step;

/// Unchanged lines shown on each side of a change.
const CONTEXT: usize = 2;

/// A line of a diff. Line numbers count from 1; the side a line is missing from has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub tag: ChangeTag,
    pub old: Option<usize>,
    pub new: Option<usize>,
    pub text: String,
}

impl Line {
    pub fn changed(&self) -> bool {
        self.tag != ChangeTag::Equal
    }

    /// Whether a chapter has to show this line of `path`: it changed, it holds more than brackets,
    /// and it is not the description in a manifest.
    pub fn needs_explaining(&self, path: &str) -> bool {
        let says_something = self.text.chars().any(char::is_alphanumeric);
        self.changed() && says_something && !is_description(path, &self.text)
    }
}

/// One file's difference between two steps.
pub struct FileDiff {
    /// Path inside the step's directory.
    pub path: String,
    /// The older text, with the step's own name already replaced; empty for a new file.
    pub old_text: String,
    /// The newer text; empty for a removed file.
    pub new_text: String,
    pub lines: Vec<Line>,
    /// Ranges of `lines` with their context; they do not overlap.
    pub hunks: Vec<Range<usize>>,
}

/// The difference of `path` between two steps. A file that one of them lacks counts as empty there.
pub fn file_diff(old: &Step, new: &Step, path: &str) -> FileDiff {
    let new_text = new.files.get(path).cloned().unwrap_or_default();
    let old_text = old.files.get(path).map(|text| renamed(text, old, new, path, &new_text));
    let old_text = old_text.unwrap_or_default();
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Histogram)
        .diff_lines(old_text.as_str(), new_text.as_str());
    let lines: Vec<Line> = diff
        .iter_all_changes()
        .map(|change| Line {
            tag: change.tag(),
            old: change.old_index().map(|i| i + 1),
            new: change.new_index().map(|i| i + 1),
            text: change.value().trim_end_matches(['\n', '\r']).to_owned(),
        })
        .collect();
    let hunks = hunks(&lines);
    drop(diff);
    FileDiff { path: path.to_owned(), old_text, new_text, lines, hunks }
}

/// Every file that differs between two steps.
pub fn step_diff(old: &Step, new: &Step) -> Vec<FileDiff> {
    let paths: BTreeSet<&String> = old.files.keys().chain(new.files.keys()).collect();
    let diffs = paths.into_iter().map(|path| file_diff(old, new, path));
    diffs.filter(|diff| !diff.hunks.is_empty()).collect()
}

/// The older text as the newer step would have written it: a step's own name, and the description
/// in its manifest, change without teaching anything.
fn renamed(text: &str, old: &Step, new: &Step, path: &str, new_text: &str) -> String {
    let text = text.replace(&old.name, &new.name);
    let Some(newer) = new_text.lines().find(|line| is_description(path, line)) else {
        return text;
    };
    let lines = text.lines().map(|line| if is_description(path, line) { newer } else { line });
    lines.map(|line| format!("{line}\n")).collect()
}

fn is_description(path: &str, line: &str) -> bool {
    path == "Cargo.toml" && line.starts_with("description")
}

/// Groups changed lines that have at most `CONTEXT` unchanged lines between them, and adds context.
fn hunks(lines: &[Line]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (i, _) in lines.iter().enumerate().filter(|(_, line)| line.changed()) {
        match runs.last_mut() {
            Some(run) if i - run.end <= CONTEXT => run.end = i + 1,
            _ => runs.push(i..i + 1),
        }
    }
    let mut end = 0;
    for run in &mut runs {
        run.start = run.start.saturating_sub(CONTEXT).max(end);
        end = (run.end + CONTEXT).min(lines.len());
        run.end = end;
    }
    // Context never reaches into the next change: the gap is longer than CONTEXT.
    runs
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn step(name: &str, files: &[(&str, &str)]) -> Step {
        let files = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        Step { name: name.to_owned(), files }
    }

    #[test]
    fn names_and_descriptions_are_no_change() {
        let old = "[package]\nname = \"step01\"\ndescription = \"One\"\nedition = \"2024\"\n";
        let new = "[package]\nname = \"step02\"\ndescription = \"Two\"\nedition = \"2024\"\n";
        let a = step("step01", &[("Cargo.toml", old), ("src/main.rs", "use step01::run;\n")]);
        let b = step("step02", &[("Cargo.toml", new), ("src/main.rs", "use step02::run;\n")]);
        assert!(step_diff(&a, &b).is_empty());
        let c =
            step("step03", &[("Cargo.toml", "[package]\nname = \"step03\"\nedition = \"2024\"\n")]);
        let dropped = file_diff(&b, &c, "Cargo.toml");
        assert!(!dropped.lines.iter().any(|line| line.needs_explaining("Cargo.toml")));
    }

    #[test]
    fn distant_changes_are_separate_hunks_with_context() {
        let old = "a\nb\nc\nd\ne\nf\ng\n";
        let new = "A\nb\nc\nd\ne\nf\nG\n";
        let diff = file_diff(&step("step01", &[("x", old)]), &step("step02", &[("x", new)]), "x");
        let shown: Vec<String> = diff
            .hunks
            .iter()
            .map(|hunk| diff.lines[hunk.clone()].iter().map(|line| line.text.as_str()).collect())
            .collect();
        assert_eq!(shown, ["aAbc", "efgG"]);
    }

    #[test]
    fn a_new_file_is_one_hunk() {
        let diff =
            file_diff(&step("step01", &[]), &step("step02", &[("new.rs", "a\n\nb\n")]), "new.rs");
        assert_eq!(diff.hunks.first(), Some(&(0..3)));
        assert!(diff.lines.iter().all(Line::changed));
    }
}
