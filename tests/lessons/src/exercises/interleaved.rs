//! The interleaved schedule: lists that are complete, go through, and are as fast as they can be.

use anyhow::Result;
use std::collections::BTreeMap;

/// One pass of a micro-batch through one chunk of a rank's layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Or backward.
    pub forward: bool,
    /// Of the rank, from 0: chunk c is stage c·p + rank.
    pub chunk: usize,
    /// From 0.
    pub micro_batch: usize,
}

/// The function to be written: (rank, p, m, v) to the passes of the rank.
pub type Passes = fn(usize, usize, usize, usize) -> Result<Vec<Step>>;

/// (p, m, v), and the list of each rank.
type Lists = (usize, usize, usize, Vec<Vec<Step>>);

fn lists(passes: Passes) -> Vec<Lists> {
    let mut all = vec![];
    for (p, groups, v) in
        (1..=4).flat_map(|p| (1..=3).flat_map(move |g| (1..=4).map(move |v| (p, g, v))))
    {
        let m = p * groups;
        let list = |rank| match passes(rank, p, m, v) {
            Ok(list) => list,
            Err(error) => panic!("{p} ranks, {m} micro-batches, {v} chunks are refused: {error}"),
        };
        all.push((p, m, v, (0..p).map(list).collect()));
    }
    all
}

/// Every micro-batch, through every chunk, forward and then back.
pub fn every_pass_is_made_once(passes: Passes) {
    for (p, m, v, lists) in lists(passes) {
        for (rank, list) in lists.iter().enumerate() {
            let place = format!("rank {rank} of {p}, {m} micro-batches, {v} chunks");
            for (chunk, micro_batch) in (0..v).flat_map(|c| (0..m).map(move |i| (c, i))) {
                let at = |forward| {
                    let step = Step { forward, chunk, micro_batch };
                    let places = list.iter().enumerate().filter(|(_, s)| **s == step);
                    places.map(|(at, _)| at).collect::<Vec<_>>()
                };
                let (forward, backward) = (at(true), at(false));
                let what = format!("micro-batch {micro_batch} through chunk {chunk}, {place}");
                assert_eq!(forward.len(), 1, "how often forward: {what}");
                assert_eq!(backward.len(), 1, "how often backward: {what}");
                assert!(forward[0] < backward[0], "back before it has come forward: {what}");
            }
            assert_eq!(list.len(), 2 * m * v, "passes of {place}");
        }
    }
}

/// Gradients are added up in the order of the micro-batches, as everywhere else.
pub fn gradients_of_a_chunk_come_in_order(passes: Passes) {
    for (p, m, v, lists) in lists(passes) {
        for (rank, list) in lists.iter().enumerate() {
            for chunk in 0..v {
                let backward = list.iter().filter(|s| !s.forward && s.chunk == chunk);
                let made: Vec<usize> = backward.map(|s| s.micro_batch).collect();
                assert!(
                    made.is_sorted(),
                    "rank {rank} of {p}, {v} chunks: backward passes of chunk {chunk}: {made:?} of {m}"
                );
            }
        }
    }
}

/// Runs the lists, a forward pass in one unit of time and a backward pass in two: how long they take.
fn run(p: usize, v: usize, lists: &[Vec<Step>]) -> Result<usize, String> {
    let stages = p * v;
    let mut done = BTreeMap::<(usize, bool, usize), usize>::new(); // (stage, forward, micro-batch)
    let (mut next, mut free) = (vec![0; p], vec![0; p]);
    loop {
        let mut moved = false;
        for rank in 0..p {
            while let Some(&Step { forward, chunk, micro_batch }) = lists[rank].get(next[rank]) {
                let stage = chunk * p + rank;
                let from = if forward { stage.checked_sub(1) } else { Some(stage + 1) };
                let from = from.filter(|from| *from < stages);
                let ready = |from| done.get(&(from, forward, micro_batch)).copied();
                let Some(ready) = from.map_or(Some(0), ready) else { break };
                free[rank] = free[rank].max(ready) + if forward { 1 } else { 2 };
                done.insert((stage, forward, micro_batch), free[rank]);
                next[rank] += 1;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    for (rank, list) in lists.iter().enumerate() {
        if let Some(step) = list.get(next[rank]) {
            return Err(format!("rank {rank} waits for ever in {step:?}"));
        }
    }
    Ok(free.into_iter().max().unwrap_or(0))
}

/// No rank waits for ever.
pub fn no_rank_waits_for_ever(passes: Passes) {
    for (p, m, v, lists) in lists(passes) {
        if let Err(stuck) = run(p, v, &lists) {
            panic!("{p} ranks, {m} micro-batches, {v} chunks: {stuck}");
        }
    }
}

/// All idle for p − 1 pairs of short passes, and no longer.
pub fn the_bubble_is_that_of_short_stages(passes: Passes) {
    for (p, m, v, lists) in lists(passes) {
        let took = run(p, v, &lists).unwrap_or_else(|stuck| panic!("{stuck}"));
        let expected = 3 * (m * v + p - 1);
        assert_eq!(
            took, expected,
            "{p} ranks, {m} micro-batches, {v} chunks: units of time, of which 3·m·v are work"
        );
    }
}

/// No rank keeps more activations than it must.
pub fn a_rank_keeps_no_more_than_it_must(passes: Passes) {
    for (p, m, v, lists) in lists(passes) {
        for (rank, list) in lists.iter().enumerate() {
            let (mut kept, mut most) = (0, 0);
            for step in list {
                kept += if step.forward { 1 } else { -1 };
                most = most.max(kept);
            }
            let ahead = if v == 1 { p - rank - 1 } else { 2 * (p - rank - 1) + (v - 1) * p };
            let expected = (ahead + 1).min(m * v) as i32;
            assert_eq!(
                most, expected,
                "rank {rank} of {p}, {m} micro-batches, {v} chunks: chunks whose activations it keeps"
            );
        }
    }
}

/// Groups of p micro-batches must come out even.
pub fn micro_batches_that_do_not_divide_are_refused(passes: Passes) {
    for (p, m) in [(2, 3), (4, 6), (3, 1)] {
        match passes(0, p, m, 2) {
            Ok(_) => panic!("{p} ranks and {m} micro-batches are not refused"),
            Err(error) => {
                let text = format!("{error:#}");
                let names = text.contains(&p.to_string()) && text.contains(&m.to_string());
                assert!(
                    names,
                    "the sentence must name the {p} ranks and {m} micro-batches: {text}"
                );
            }
        }
    }
}
