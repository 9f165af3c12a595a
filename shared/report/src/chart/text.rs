//! The chart in characters, for a terminal.

use super::{Chart, Direction, Pass, Row};
use std::collections::BTreeMap;

const WAITING: char = '·';

impl Chart {
    /// One line a rank, at most `width` characters wide: forward passes as digits, backward passes
    /// as letters, since there are no colours. A column shows what took most of its time.
    pub fn text(&self, width: usize) -> String {
        let label = self.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
        // Two bars and a space; narrower than 10 columns says nothing.
        let columns = width.saturating_sub(label + 3).max(10);
        let mut out = String::new();
        for row in &self.rows {
            let line: String = (0..columns).map(|i| self.column(row, i, columns)).collect();
            out += &format!("{:label$} │{line}│\n", row.label);
        }
        let numbered =
            self.rows.iter().flat_map(|row| &row.passes).any(|p| p.micro_batch.is_some());
        let passes = if numbered {
            "0 1 2 … forward, a b c … backward of the same"
        } else {
            "> forward, < backward"
        };
        let milliseconds = self.length_ns as f64 / 1e6;
        let indent = " ".repeat(label + 2);
        out += &format!("{indent}{passes}, {WAITING} waiting; {milliseconds:.1} ms\n");
        if let Some(bubble) = self.bubble() {
            out += &format!("{indent}{bubble}\n");
        }
        out
    }

    /// What a rank did in column `i` of `columns`.
    fn column(&self, row: &Row, i: usize, columns: usize) -> char {
        // In 1/columns ns, so that columns meet exactly.
        let (from, to) =
            (i as u128 * self.length_ns as u128, (i as u128 + 1) * self.length_ns as u128);
        let mut shares = BTreeMap::from([(WAITING, to - from)]);
        for pass in &row.passes {
            for (start, end) in pass.busy(0) {
                let start = (start as u128 * columns as u128).max(from);
                let end = (end as u128 * columns as u128).min(to);
                if start < end {
                    *shares.entry(mark(pass)).or_default() += end - start;
                    *shares.get_mut(&WAITING).expect("put there above") -= end - start;
                }
            }
        }
        let most = shares.into_iter().max_by_key(|&(mark, share)| (share, mark != WAITING));
        most.map_or(WAITING, |(mark, _)| mark)
    }
}

/// From micro-batch 10 on digits and letters begin again: neighbours still differ.
fn mark(pass: &Pass) -> char {
    let first = match (pass.direction, pass.micro_batch) {
        (Direction::Forward, None) => return '>',
        (Direction::Backward, None) => return '<',
        (Direction::Forward, Some(_)) => b'0',
        (Direction::Backward, Some(_)) => b'a',
    };
    (first + (pass.micro_batch.unwrap_or(0) % 10) as u8) as char
}
