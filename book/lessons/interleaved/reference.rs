//! The interleaved schedule (Narayanan et al., 2021): each rank has several short stages.

use anyhow::ensure;
use lessons::exercises::interleaved::Step;

/// The passes of `rank` of `p`, which has `v` chunks of layers: chunk c of it is stage c·p + rank of
/// p·v. In order; each of the `m` micro-batches goes through each chunk forward once and back once.
///
/// Micro-batches go in groups of p: a group through chunk 0, then through chunk 1, …, then the next
/// group; backward from the last chunk on. `rank` runs 2(p − rank − 1) + (v − 1)·p forward passes
/// ahead (at most all), then one forward, one backward, and in the end the backward passes that are
/// left. With one chunk it is 1F1B, which runs p − rank − 1 ahead.
///
/// # Errors
/// If p does not divide m; the sentence says both numbers.
pub fn passes(rank: usize, p: usize, m: usize, v: usize) -> anyhow::Result<Vec<Step>> {
    ensure!(
        m.is_multiple_of(p),
        "{p} ranks cannot interleave {m} micro-batches: they must divide them"
    );
    let all = m * v;
    let ahead = if v == 1 { p - rank - 1 } else { 2 * (p - rank - 1) + (v - 1) * p };
    let warmup = ahead.min(all);
    // The n-th pass of a direction: so far into its group of p micro-batches, chunk by chunk.
    let micro_batch = |n: usize| n / (p * v) * p + n % p;
    let chunk = |n: usize| n % (p * v) / p;
    let forward = |n| Step { forward: true, chunk: chunk(n), micro_batch: micro_batch(n) };
    let backward =
        |n| Step { forward: false, chunk: v - 1 - chunk(n), micro_batch: micro_batch(n) };
    let mut passes: Vec<Step> = (0..warmup).map(forward).collect();
    for n in 0..all {
        if warmup + n < all {
            passes.push(forward(warmup + n));
        }
        passes.push(backward(n));
    }
    Ok(passes)
}
