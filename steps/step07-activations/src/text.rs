//! The text that a run learns, and the batches that a rank reads of it.

use anyhow::Result;
use cli::Start;
use data::{BatchOptions, Batches, Dataset, TokenCache, Tokenizer};
use std::sync::Arc;

use crate::config::Config;

/// Opens the text: once, for all ranks of this process.
pub fn open(start: &mut Start<Config>) -> Result<Arc<Dataset>> {
    let (data, vocab_size) = (&start.config.data, start.config.model.vocab_size as usize);
    let tokenizer = Tokenizer::open(data.tokenizer.as_deref())?;
    let cache = TokenCache { dir: data.data_cache.as_deref(), say: &|line| eprintln!("{line}") };
    let text = match &data.data {
        Some(path) => Dataset::open(path, &tokenizer, cache, vocab_size, data.seq_len)?,
        None => Dataset::tales(&tokenizer, vocab_size, data.seq_len)?,
    };
    start.reads("data", &text);
    Ok(Arc::new(text))
}

/// The batches of replica `dp_rank` of `dp`.
pub fn batches(config: &Config, text: &Arc<Dataset>, dp_rank: usize, dp: usize) -> Result<Batches> {
    let (data, train) = (&config.data, &config.train);
    let options = BatchOptions {
        global_batch: train.global_batch,
        micro_batch: train.micro_batch,
        dp_rank,
        dp,
        shuffle_seed: data.shuffle.then_some(train.seed),
        device: config.run.device(),
    };
    Batches::new(text.clone(), options)
}
