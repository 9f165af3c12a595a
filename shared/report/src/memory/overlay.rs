//! One rank of several runs, one line over the other.

use super::MemoryLine;
use super::drawing::{Drawing, WIDTH, peak, told};
use crate::plot::RUNS;
use anyhow::{Context, Result, ensure};

const HEIGHT: f64 = 300.0;
/// A line of the legend.
const KEY: f64 = 20.0;

/// Draws what the rank called `rank`, or the first of each, held in runs of these names. A part of
/// the rank's name is enough, as in `pp1`: the first rank that it fits is drawn.
///
/// # Errors
/// If a run has no such rank, or there are more runs than colours.
pub fn overlay(runs: &[(String, Vec<MemoryLine>)], rank: Option<&str>) -> Result<String> {
    ensure!(
        runs.len() <= RUNS.len(),
        "{} runs are too many for one picture: draw {}",
        runs.len(),
        RUNS.len()
    );
    let lines: Vec<(&str, &MemoryLine)> = runs
        .iter()
        .map(|(name, lines)| Ok((&**name, find(lines, rank).with_context(|| name.clone())?)))
        .collect::<Result<_>>()?;
    let mut drawing = Drawing::new(lines.iter().map(|line| line.1), 12.0, HEIGHT);
    let bottom = 14.0 + KEY * lines.len() as f64 + 14.0 + HEIGHT;
    drawing.grid(bottom, 6);
    for (run, (name, line)) in lines.iter().enumerate() {
        let y = 22.0 + KEY * run as f64;
        drawing.path(&format!("key line run{run}"), &format!("M12 {:.1}h24", y - 4.5));
        drawing.text(43.0, y, "start", "words", &format!("{name}: peak {}", peak(line)));
        drawing.line(line, bottom, run, false);
    }
    for (run, (_, line)) in lines.iter().enumerate() {
        drawing.peak(line, bottom, run);
    }
    drawing.axis(bottom + 4.0);
    drawing.text(12.0, bottom + 44.0, "start", "words", "What tensors hold, in bytes.");
    let shown = lines.first().map_or("", |line| &line.1.rank);
    drawing.text(WIDTH - 14.0, 22.0, "end", "", shown);
    let told: Vec<String> = lines.iter().map(|(name, line)| told(name, line)).collect();
    let title = format!("Memory over one training step, {shown}");
    Ok(drawing.finish(bottom + 56.0, &title, &told))
}

fn find<'a>(lines: &'a [MemoryLine], rank: Option<&str>) -> Result<&'a MemoryLine> {
    let asked: Vec<&str> = rank.unwrap_or_default().split_whitespace().collect();
    let fits = |line: &&MemoryLine| {
        asked.iter().all(|word| line.rank.split_whitespace().any(|part| part == *word))
    };
    lines.iter().find(fits).with_context(|| {
        let ranks: Vec<&str> = lines.iter().map(|line| &*line.rank).collect();
        format!("there is no rank {}, only {}", asked.join(" "), ranks.join(", "))
    })
}
