//! Steps, batches and the optimiser's numbers.

use super::Asked;
use crate::TrainConfig;
use anyhow::{Result, ensure};

pub(super) fn check(asked: &Asked) -> Result<()> {
    let (model, data, train) = (asked.common.model, asked.common.data, asked.common.train);
    let dp = asked.layout.dp;
    let (micro, global) = (train.micro_batch, train.global_batch);
    let counts =
        [("seq-len", data.seq_len), ("micro-batch", micro), ("global-batch", global), ("dp", dp)];
    for (name, n) in counts {
        ensure!(n >= 1, "{name} is {n}, but must be at least 1");
    }
    let (seq, most) = (data.seq_len, model.max_position_embeddings);
    ensure!(
        i64::try_from(seq).is_ok_and(|seq| seq <= most),
        "seq-len is {seq}, but must not exceed max_position_embeddings {most}"
    );
    // Layers are divided among stages by what their attention costs, which must not overflow.
    let width = model.num_attention_heads * model.head_dim();
    let most = (1 << 50) / width;
    ensure!(
        seq as i64 <= most,
        "seq-len is {seq}, but must be at most {most} with {} heads of head_dim {}",
        model.num_attention_heads,
        model.head_dim()
    );
    let unit = micro.saturating_mul(dp); // where it saturates, no global batch is a multiple of it
    ensure!(
        global % unit == 0,
        "global-batch is {global}, but must be a multiple of micro-batch {micro} × dp {dp} = {unit}"
    );
    // Tokens are counted.
    let (steps, most) = (train.steps, usize::MAX / seq);
    ensure!(
        steps.max(1).saturating_mul(global) <= most,
        "steps is {steps} and global-batch {global}, but their product must be at most {most} with seq-len {seq}"
    );
    let most = (MOST_IN_MEMORY / seq).saturating_mul(dp);
    ensure!(
        global <= most,
        "global-batch is {global}, but must be at most {most} with seq-len {seq} and dp {dp}: a replica reads \
         its share at once, and {MOST_IN_MEMORY} tokens fit in memory"
    );
    optimizer(train)
}

/// Most tokens that a rank reads at once: 4 GiB with their targets.
pub(super) const MOST_IN_MEMORY: usize = 1 << 28;

fn optimizer(train: &TrainConfig) -> Result<()> {
    let (lr, min_lr, warmup, steps) = (train.lr, train.min_lr, train.warmup, train.steps);
    ensure!(lr > 0.0, "lr is {lr:?}, but must be above 0");
    for (name, x) in
        [("min-lr", min_lr), ("weight-decay", train.weight_decay), ("clip", train.clip)]
    {
        ensure!(x >= 0.0, "{name} is {x:?}, but must not be negative");
    }
    ensure!(min_lr <= lr, "min-lr is {min_lr:?}, but must not exceed lr {lr:?}");
    // With 0 steps a model is only used.
    ensure!(warmup <= steps || steps == 0, "warmup is {warmup}, but must not exceed steps {steps}");
    Ok(())
}
