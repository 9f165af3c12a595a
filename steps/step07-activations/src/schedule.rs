//! What each stage of a pipeline holds, and in which order it computes. Nothing here depends on a
//! rank or a tensor: the trainer executes these lists, and a dry run counts them.

use crate::config::Schedule;
use checkpoint::LlamaConfig;
use report::Pass;
use std::ops::Range;

/// The order of the passes on one of `stages` stages.
///
/// Both schedules begin with forward passes. AFAB (Huang et al., *GPipe*, 2019) begins with all of
/// them, 1F1B (Fan et al., *DAPPLE*, 2021) with stages − stage: just enough for the first gradient
/// to arrive in time. If messages take no time, both schedules take equally long, but AFAB keeps
/// the activations of all micro-batches.
pub fn passes(schedule: Schedule, stage: usize, stages: usize, micro_batches: usize) -> Vec<Pass> {
    let warmup = match schedule {
        Schedule::AllForwardAllBackward => micro_batches,
        Schedule::OneForwardOneBackward => micro_batches.min(stages - stage),
    };
    let mut passes: Vec<Pass> = (0..warmup).map(Pass::Forward).collect();
    for i in 0..micro_batches {
        passes.push(Pass::Backward(i));
        if warmup + i < micro_batches {
            passes.push(Pass::Forward(warmup + i));
        }
    }
    passes
}

/// The layers of each stage. Greedy: each layer goes to the stage with the least work so far. Ties
/// go to the latest stage, because it holds the fewest activations. Work is counted in
/// multiplications per token, embedding and head included.
pub fn stages(config: &LlamaConfig, seq_len: usize, stages: usize) -> Vec<Range<i64>> {
    let (hidden, head_dim) = (config.hidden_size, config.head_dim());
    let (q, kv) = (config.num_attention_heads * head_dim, config.kv_heads() * head_dim);
    let scores = q * seq_len as i64; // q·kᵀ and its product with v, half of each masked
    let layer = hidden * (2 * q + 2 * kv + 3 * config.intermediate_size) + scores;
    let mut work = vec![0; stages];
    work[0] += hidden; // the embedding looks up one row
    work[stages - 1] += hidden * config.vocab_size;
    let mut layers = vec![0; stages];
    for _ in 0..config.num_hidden_layers {
        let least = |&stage: &usize| (layers[stage] > 0, work[stage]); // empty ones first
        let stage = (0..stages).rev().min_by_key(least).expect("there is a stage");
        layers[stage] += 1;
        work[stage] += layer;
    }
    let mut next = 0;
    let range = |n: i64| {
        next += n;
        next - n..next
    };
    layers.into_iter().map(range).collect()
}
