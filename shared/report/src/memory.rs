//! What the ranks hold in memory over one training step: the data, and pictures of it. One picture
//! shows all ranks of a run ([`write_memory`]), the other one rank of several runs ([`overlay`]).

mod drawing;
mod overlay;
mod ranks;
#[cfg(test)]
mod tests;

pub use overlay::overlay;

use crate::whole::{is_special, write_whole};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What one rank held over a training step. Times are milliseconds since the recording began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryLine {
    /// Its place, as in `dp0 pp1 cp0 tp0`.
    pub rank: String,
    /// Bytes that it held when the recording began: weights, gradients, moments.
    pub held: u64,
    /// When it allocated how many bytes (or freed, if negative), in their order.
    pub changes: Vec<(f64, i64)>,
    /// What it computed, if that is known: start, end, and `forward 0`, `backward 0`, `optimizer`.
    pub passes: Vec<(f64, f64, String)>,
}

impl MemoryLine {
    /// When it held most, for the first time, and how many bytes.
    pub fn peak(&self) -> (f64, i64) {
        let start = (0.0, self.held as i64);
        self.levels().fold(start, |most, level| if level.1 > most.1 { level } else { most })
    }

    /// What it held after each change.
    fn levels(&self) -> impl Iterator<Item = (f64, i64)> {
        self.changes.iter().scan(self.held as i64, |held, &(at, bytes)| {
            *held += bytes;
            Some((at, *held))
        })
    }

    /// When the last thing happened.
    fn end(&self) -> f64 {
        let passes = self.passes.iter().map(|pass| pass.1);
        self.changes.iter().map(|change| change.0).chain(passes).fold(0.0, f64::max)
    }

    /// What each of `n` columns shows of the time from 0 to `end`, where something changes in it.
    fn columns(&self, end: f64, n: usize) -> Vec<Column> {
        let mut out: Vec<Column> = Vec::new();
        for (at, held) in self.levels() {
            let i = ((at / end * n as f64).max(0.0) as usize).min(n - 1);
            match out.last_mut() {
                // Threads that free may be late to say so, but never by a column.
                Some(column) if column.i >= i => column.add(held),
                _ => out.push(Column { i, low: held, high: held, last: held }),
            }
        }
        out
    }
}

/// All that fits into one column of a picture: how far up and down it goes, and where it ends.
#[derive(Debug, PartialEq)]
struct Column {
    i: usize,
    low: i64,
    high: i64,
    last: i64,
}

impl Column {
    fn add(&mut self, held: i64) {
        self.low = self.low.min(held);
        self.high = self.high.max(held);
        self.last = held;
    }
}

/// Draws a row for each rank, in SVG, and writes the data beside it: `run.json` beside `run.svg`.
/// Its times are rounded to microseconds. Beside a pipe nothing is written. Each file appears whole or not at all.
///
/// # Errors
/// If a file cannot be written, or the picture is called `.json` itself.
pub fn write_memory(path: &Path, lines: &[MemoryLine]) -> Result<()> {
    let beside = path.with_extension("json");
    ensure!(
        path != beside,
        "the picture of memory {} would be overwritten by its data: let its name end in .svg",
        path.display()
    );
    write_whole(path, ranks::svg(lines).as_bytes())
        .with_context(|| format!("cannot write the picture of memory {}", path.display()))?;
    if is_special(path) {
        return Ok(());
    }
    write_whole(&beside, &serde_json::to_vec(&rounded(lines))?)
        .with_context(|| format!("cannot write the data of memory {}", beside.display()))
}

/// With times in whole microseconds, which makes the file half as long.
fn rounded(lines: &[MemoryLine]) -> Vec<MemoryLine> {
    let round = |ms: f64| (ms * 1e3).round() / 1e3;
    let mut lines = lines.to_vec();
    for line in &mut lines {
        line.changes.iter_mut().for_each(|change| change.0 = round(change.0));
        line.passes.iter_mut().for_each(|pass| (pass.0, pass.1) = (round(pass.0), round(pass.1)));
    }
    lines
}

/// Reads what [`write_memory`] has written beside its picture.
///
/// # Errors
/// If the file cannot be read, or holds anything else, or no rank.
pub fn read_memory(path: &Path) -> Result<Vec<MemoryLine>> {
    let about = || format!("memory {}", path.display());
    let bytes = std::fs::read(path).with_context(about)?;
    let lines: Vec<MemoryLine> = serde_json::from_slice(&bytes)
        .context("it is not what a run has written beside its picture of memory")
        .with_context(about)?;
    ensure!(!lines.is_empty(), "memory {} holds no rank", path.display());
    Ok(lines)
}
