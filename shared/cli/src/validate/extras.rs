//! Held-out text and checkpoints.

use super::Asked;
use super::train::MOST_IN_MEMORY;
use anyhow::{Result, bail, ensure};

pub(super) fn check(asked: &Asked) -> Result<()> {
    validation(asked)?;
    let extras = asked.extras;
    for (name, n) in [("save-every", extras.save_every), ("save-keep", extras.save_keep)] {
        let Some(n) = n else { continue };
        ensure!(n >= 1, "{name} is 0, but must be at least 1");
        ensure!(extras.save.is_some(), "{name} is {n}, but needs save, which says where to");
    }
    Ok(())
}

fn validation(asked: &Asked) -> Result<()> {
    let (extras, data) = (asked.extras, asked.common.data);
    let Some(every) = extras.eval_every else {
        if let Some(path) = extras.eval_data {
            let path = path.display();
            bail!("eval-data is {path}, but needs eval-every, which says when to use it");
        }
        return Ok(());
    };
    let batches = extras.eval_batches;
    for (name, n) in [("eval-every", every), ("eval-batches", batches)] {
        ensure!(n >= 1, "{name} is {n}, but must be at least 1");
    }
    ensure!(
        data.data.is_none() || extras.eval_data.is_some(),
        "eval-every is {every}, but with data it needs eval-data: the built-in tales say nothing about a \
         model that learns from other text"
    );
    let batch = asked.common.train.global_batch * data.seq_len;
    ensure!(
        batches.checked_mul(batch).is_some_and(|tokens| tokens <= MOST_IN_MEMORY),
        "eval-batches is {batches}, but must be at most {}: a global batch has {batch} tokens, and \
         {MOST_IN_MEMORY} fit in memory",
        MOST_IN_MEMORY / batch
    );
    Ok(())
}
