//! Keeps account of which changed lines the chapters show, and names those that none does.

use std::collections::BTreeSet;

use crate::diff::{FileDiff, Line, step_diff};
use crate::steps::Step;

/// Which side of a diff a line number belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Old,
    New,
}

/// The lines shown so far: newer step, file, side, line number.
#[derive(Default)]
pub struct Explained(BTreeSet<(String, String, Side, usize)>);

impl Explained {
    /// Notes that a chapter shows `number` of `file` as it changes on the way to `step`.
    pub fn show(&mut self, step: &str, file: &str, side: Side, number: usize) {
        self.0.insert((step.to_owned(), file.to_owned(), side, number));
    }

    /// Notes a line of a diff.
    pub fn show_line(&mut self, step: &str, file: &str, line: &Line) {
        if let (Some(number), None) = (line.old, line.new) {
            self.show(step, file, Side::Old, number);
        }
        if let Some(number) = line.new {
            self.show(step, file, Side::New, number);
        }
    }

    fn has(&self, step: &str, file: &str, line: &Line) -> bool {
        let (side, number) = match (line.old, line.new) {
            (Some(number), None) => (Side::Old, number),
            (_, number) => (Side::New, number.unwrap_or(0)),
        };
        self.0.contains(&(step.to_owned(), file.to_owned(), side, number))
    }

    /// One sentence for each changed line between `old` and `new` that no chapter shows.
    pub fn missing(&self, old: &Step, new: &Step) -> Vec<String> {
        let diffs = step_diff(old, new);
        diffs.iter().flat_map(|diff| self.missing_in(old, new, diff)).collect()
    }

    fn missing_in(&self, old: &Step, new: &Step, diff: &FileDiff) -> Vec<String> {
        let changed = diff.lines.iter().filter(|line| line.needs_explaining(&diff.path));
        let missing = changed.filter(|line| !self.has(&new.name, &diff.path, line));
        let say = |line: &Line| {
            let (step, number, verb) = match (line.old, line.new) {
                (Some(number), None) => (&old.name, number, "removed"),
                (_, number) => (&new.name, number.unwrap_or(0), "added"),
            };
            let text = line.text.trim();
            format!("{step}/{}:{number}: no chapter shows this {verb} line: {text}", diff.path)
        };
        missing.map(say).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::tests::step;

    const OLD: &str = "fn a() {\n    one();\n}\n";
    const NEW: &str = "fn a() {\n    two();\n    three();\n}\n";

    #[test]
    fn an_unexplained_line_is_named_by_file_and_line() {
        let (a, b) = (step("step01", &[("x.rs", OLD)]), step("step02", &[("x.rs", NEW)]));
        let mut explained = Explained::default();
        explained.show("step02", "x.rs", Side::Old, 2);
        explained.show("step02", "x.rs", Side::New, 2);
        let missing = explained.missing(&a, &b);
        assert_eq!(missing, ["step02/x.rs:3: no chapter shows this added line: three();"]);
        explained.show("step02", "x.rs", Side::New, 3);
        assert!(explained.missing(&a, &b).is_empty());
    }

    #[test]
    fn removed_lines_and_files_need_explaining_too() {
        let (a, b) = (step("step01", &[("x.rs", OLD), ("y.rs", "gone\n")]), step("step02", &[]));
        let missing = Explained::default().missing(&a, &b);
        assert_eq!(missing.len(), 3, "the closing brace alone teaches nothing: {missing:?}");
        assert_eq!(missing[2], "step01/y.rs:1: no chapter shows this removed line: gone");
    }
}
