//! Steps, batches and the optimiser's numbers.

use crate::Config;
use anyhow::{Context, Result, bail, ensure};

pub(super) fn check(config: &Config) -> Result<()> {
    let (data, train, dp) = (&config.data, &config.train, config.parallel.layout.dp);
    let (micro, global) = (train.micro_batch, train.global_batch);
    let counts = [
        ("seq-len", data.seq_len),
        ("micro-batch", micro),
        ("global-batch", global),
        ("eval-every", train.eval_every.unwrap_or(1)),
        ("eval-batches", train.eval_batches),
        ("dp", dp),
    ];
    for (name, n) in counts {
        ensure!(n >= 1, "{name} is {n}, but must be at least 1");
    }
    let (seq, most) = (data.seq_len, config.model.max_position_embeddings);
    ensure!(
        i64::try_from(seq).is_ok_and(|seq| seq <= most),
        "seq-len is {seq}, but must not exceed max_position_embeddings {most}"
    );
    // Nobody attends to as much: layers are dealt out by what their attention costs.
    let model = &config.model;
    let width = model.num_attention_heads * model.head_dim();
    let most = (1 << 50) / width;
    ensure!(
        seq as i64 <= most,
        "seq-len is {seq}, but must be at most {most} with {} heads of head_dim {}",
        model.num_attention_heads,
        model.head_dim()
    );
    let unit = micro.checked_mul(dp);
    let unit = unit.with_context(|| {
        format!("micro-batch {micro} × dp {dp} is out of all proportion: global-batch is a multiple of it")
    })?;
    ensure!(
        global % unit == 0,
        "global-batch is {global}, but must be a multiple of micro-batch {micro} × dp {dp} = {unit}"
    );
    // Tokens are counted, and nobody has as many.
    let most = usize::MAX / seq;
    ensure!(
        global <= most,
        "global-batch is {global}, but must be at most {most} with seq-len {seq}"
    );
    let (steps, most) = (train.steps, usize::MAX / (global * seq));
    ensure!(
        steps <= most,
        "steps is {steps}, but must be at most {most} with global-batch {global} and seq-len {seq}"
    );
    validation(config)?;
    optimizer(config)
}

/// The most tokens of held-out text, 4 GiB of them with their targets: they are in memory together.
const MOST_HELD_OUT: usize = 1 << 28;

fn validation(config: &Config) -> Result<()> {
    let (data, train) = (&config.data, &config.train);
    let (batches, batch) = (train.eval_batches, train.global_batch * data.seq_len);
    let Some(every) = train.eval_every else {
        if let Some(path) = &data.eval_data {
            bail!("eval-data is {}, but eval-every does not say when to use it", path.display());
        }
        return Ok(());
    };
    ensure!(
        data.data.is_none() || data.eval_data.is_some(),
        "eval-every is {every}, but eval-data does not say on what: the built-in tales tell nothing of \
         a model that learns from data"
    );
    ensure!(
        batches.checked_mul(batch).is_some_and(|tokens| tokens <= MOST_HELD_OUT),
        "eval-batches is {batches}, but must be at most {}: a global batch has {batch} tokens, and \
         {MOST_HELD_OUT} fit in memory",
        MOST_HELD_OUT / batch
    );
    Ok(())
}

fn optimizer(config: &Config) -> Result<()> {
    let train = &config.train;
    let (lr, min_lr, warmup, steps) = (train.lr, train.min_lr, train.warmup, train.steps);
    ensure!(lr > 0.0, "lr is {lr:?}, but must be above 0");
    for (name, x) in
        [("min-lr", min_lr), ("weight-decay", train.weight_decay), ("clip", train.clip)]
    {
        ensure!(x >= 0.0, "{name} is {x:?}, but must not be negative");
    }
    ensure!(min_lr <= lr, "min-lr is {min_lr:?}, but must not exceed lr {lr:?}");
    // Without steps a model is only used.
    ensure!(warmup <= steps || steps == 0, "warmup is {warmup}, but must not exceed steps {steps}");
    Ok(())
}
