//! One training step as the ranks' traces show it: who computed which micro-batch when,
//! and who waited.

mod svg;
#[cfg(test)]
mod tests;
mod text;

use crate::event::{Event, RankTrace, Track};
use anyhow::Result;
use std::cmp::Reverse;
use std::fmt;

/// The last whole training step of a run: from the first forward pass of any rank to the last
/// backward pass. What a rank does not compute in that window counts as waiting.
#[derive(Clone, Debug)]
pub struct Chart {
    rows: Vec<Row>,
    /// Length of the window.
    length_ns: u64,
    /// Number of pipeline stages.
    pp: usize,
}

/// What one rank did.
#[derive(Clone, Debug)]
struct Row {
    label: String,
    /// In order of time; none overlaps another.
    passes: Vec<Pass>,
}

/// One micro-batch through one stage, forward or backward. Times count from the window's start.
#[derive(Clone, Debug)]
struct Pass {
    direction: Direction,
    /// `None` if the step did not number its passes, because there was no pipeline.
    micro_batch: Option<usize>,
    start_ns: u64,
    end_ns: u64,
    /// When the rank was blocked in the middle of the pass, say by a sum over its tp group: in
    /// order of time, none overlaps another.
    waits: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Forward,
    Backward,
}

/// How much of the step the ranks spent waiting. Displayed as one line, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bubble {
    /// The share of the window between passes, averaged over the ranks.
    pub measured: f64,
    /// The share that they were blocked inside passes: their tp or cp groups had
    /// something to exchange.
    pub inside: f64,
    /// What remains when all stages take equally long and messages no time: (pp − 1)/(m + pp − 1),
    /// with m micro-batches. (Narayanan et al. 2021, *Megatron-LM*, section 2.2.1, divide by the
    /// ideal time and not by the whole, and get (pp − 1)/m.)
    pub ideal: f64,
}

impl Chart {
    /// Reads what the ranks exported ([`crate::Trace::export`]). `None` if they recorded no whole
    /// step, which ends with a span called `optimizer`.
    ///
    /// # Errors
    /// If bytes are not a rank's export.
    pub fn read(exports: &[Vec<u8>]) -> Result<Option<Self>> {
        Ok(Self::of(&RankTrace::read(exports)?))
    }

    pub(crate) fn of(ranks: &[RankTrace]) -> Option<Self> {
        // All ranks record from the same step on, but not all of them may have
        // finished the last one.
        let steps = ranks.iter().map(|rank| optimizers(rank).len()).min()?;
        let names: Vec<&str> = ranks.iter().map(|rank| &*rank.name).collect();
        let labels = labels(&names);
        let mut rows: Vec<Row> = ranks
            .iter()
            .zip(labels)
            .map(|(rank, label)| Some(Row { label, passes: passes(rank, steps)? }))
            .collect::<Option<_>>()?;
        let all = || rows.iter().flat_map(|row| &row.passes);
        let origin = all().map(|pass| pass.start_ns).min()?;
        let length_ns = all().map(|pass| pass.end_ns).max()? - origin;
        rows.iter_mut().flat_map(|row| &mut row.passes).for_each(|pass| pass.shift(origin));
        let pp = ranks.iter().flat_map(|rank| rank.name.split(' ')).filter_map(stage).max();
        Some(Self { rows, length_ns, pp: pp.unwrap_or(0) + 1 })
    }

    /// `None` without a pipeline.
    pub fn bubble(&self) -> Option<Bubble> {
        if self.pp == 1 || self.length_ns == 0 {
            return None;
        }
        let whole = self.length_ns * self.rows.len() as u64;
        let passes = || self.rows.iter().flat_map(|row| &row.passes);
        let within: u64 = passes().map(|pass| pass.end_ns - pass.start_ns).sum();
        let busy: u64 = passes().map(Pass::busy_ns).sum();
        let share = |ns: u64| ns as f64 / whole as f64;
        let forward = |pass: &&Pass| pass.direction == Direction::Forward;
        let m = self.rows[0].passes.iter().filter(forward).count();
        Some(Bubble {
            measured: share(whole - within),
            inside: share(within - busy),
            ideal: (self.pp - 1) as f64 / (m + self.pp - 1) as f64,
        })
    }
}

impl fmt::Display for Bubble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [measured, inside, ideal] =
            [self.measured, self.inside, self.ideal].map(|share| 100.0 * share);
        write!(f, "idle: measured {measured:.0} %, (pp − 1)/(m + pp − 1) = {ideal:.0} %")?;
        match inside {
            ..0.5 => Ok(()),
            _ => write!(f, "; waiting inside passes: {inside:.0} %"),
        }
    }
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
        }
    }
}

impl Pass {
    /// `None` if the event is something else.
    fn of(event: &Event) -> Option<Self> {
        let (name, micro_batch) = match event.name.split_once(' ') {
            Some((name, number)) => (name, Some(number.parse().ok()?)),
            None => (&*event.name, None),
        };
        let direction = [Direction::Forward, Direction::Backward]
            .into_iter()
            .find(|direction| event.track == Track::Compute && direction.name() == name)?;
        let Event { start_ns, end_ns, .. } = *event;
        Some(Self { direction, micro_batch, start_ns, end_ns, waits: Vec::new() })
    }

    fn shift(&mut self, origin: u64) {
        let ends = self.waits.iter_mut().flat_map(|(start, end)| [start, end]);
        ends.chain([&mut self.start_ns, &mut self.end_ns]).for_each(|time| *time -= origin);
    }

    fn busy_ns(&self) -> u64 {
        self.busy(0).iter().map(|(start, end)| end - start).sum()
    }

    /// The stretches of computing, parted by waits that take longer than `least` nanoseconds.
    fn busy(&self, least: u64) -> Vec<(u64, u64)> {
        let waits = self.waits.iter().filter(|(start, end)| end - start > least);
        let starts = [self.start_ns].into_iter().chain(waits.clone().map(|wait| wait.1));
        let ends = waits.map(|wait| wait.0).chain([self.end_ns]);
        starts.zip(ends).filter(|(start, end)| start < end).collect()
    }
}

/// In order of time.
fn optimizers(rank: &RankTrace) -> Vec<&Event> {
    let update = |event: &&Event| event.track == Track::Compute && event.name == "optimizer";
    let mut updates: Vec<_> = rank.events.iter().filter(update).collect();
    updates.sort_by_key(|event| event.start_ns);
    updates
}

/// What a rank computed in its step number `step`, from 1; `None` if there is no such step.
fn passes(rank: &RankTrace, step: usize) -> Option<Vec<Pass>> {
    let updates = optimizers(rank);
    let end = updates.get(step.checked_sub(1)?)?.start_ns;
    let start = if step > 1 { updates[step - 2].end_ns } else { 0 };
    let within = |event: &&Event| event.start_ns >= start && event.start_ns < end;
    let sorted = |mut events: Vec<Pass>| {
        // Of two that start together the longer is the outer one.
        events.sort_by_key(|pass| (pass.start_ns, Reverse(pass.end_ns)));
        events
    };

    let mut waits: Vec<_> = rank.events.iter().filter(|event| event.track == Track::Wait).collect();
    waits.sort_by_key(|event| event.start_ns);
    let mut passes: Vec<Pass> = Vec::new();
    for mut pass in sorted(rank.events.iter().filter(within).filter_map(Pass::of).collect()) {
        // A pass inside another (activations recomputed in a backward pass) is part of it.
        let free = passes.last().map_or(0, |before| before.end_ns);
        if pass.end_ns <= free {
            continue;
        }
        pass.start_ns = pass.start_ns.max(free);
        let mut from = pass.start_ns;
        for wait in &waits {
            let (start, end) = (wait.start_ns.max(from), wait.end_ns.min(pass.end_ns));
            if start < end {
                pass.waits.push((start, end));
                from = end;
            }
        }
        passes.push(pass);
    }
    Some(passes)
}

/// The coordinates in which the ranks differ, or a rank's whole name where there are none.
pub(crate) fn labels(names: &[&str]) -> Vec<String> {
    let names: Vec<Vec<&str>> = names.iter().map(|name| name.split(' ').collect()).collect();
    let differ = |i: usize| names.iter().any(|name| name.get(i) != names[0].get(i));
    let label = |name: &Vec<&str>| {
        let kept: Vec<&str> = (0..name.len()).filter(|&i| differ(i)).map(|i| name[i]).collect();
        if kept.is_empty() { name.join(" ") } else { kept.join(" ") }
    };
    names.iter().map(label).collect()
}

/// The number in `pp3`.
fn stage(coordinate: &str) -> Option<usize> {
    coordinate.strip_prefix("pp")?.parse().ok()
}
