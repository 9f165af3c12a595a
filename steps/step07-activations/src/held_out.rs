//! Text that a run does not learn from: it is only validated on it.

use anyhow::Result;
use cli::{DataConfig, Start, prepare_outputs, progress};
use data::{Batches, Dataset, TokenCache, Tokenizer};
use std::sync::Arc;

use crate::config::Config;
use crate::text;

/// What a run reads.
#[derive(Clone)]
pub struct Texts {
    /// What it learns from.
    pub training: Arc<Dataset>,
    /// What its validation loss is computed on, if one is asked for.
    pub held_out: Option<Arc<Dataset>>,
}

/// Opens the texts, once for all ranks of this process, and makes the directories to write to.
/// `None`: a dry run has neither.
pub fn open(start: &mut Start<Config>) -> Result<Option<Texts>> {
    if start.config.planning.dry_run {
        return Ok(None);
    }
    let training = text::open(start)?;
    let evaluation = &start.config.evaluation;
    let held_out = evaluation.eval_every.map(|_| open_held_out(&start.config)).transpose()?;
    if let Some(text) = &held_out {
        start.reads("eval-data", text);
    }
    let here = progress(&start.config, &training, 0);
    if !prepare_outputs(&start.config, &here)? {
        start.config.checkpoints.save = None; // it is there already
    }
    Ok(Some(Texts { training, held_out: held_out.map(Arc::new) }))
}

fn open_held_out(config: &Config) -> Result<Dataset> {
    let (data, vocab_size) = (&config.data, config.model.vocab_size as usize);
    let tokenizer = Tokenizer::open(data.tokenizer.as_deref())?;
    let cache = TokenCache { dir: data.data_cache.as_deref(), say: &|line| eprintln!("{line}") };
    match &config.evaluation.eval_data {
        Some(path) => Dataset::open(path, &tokenizer, cache, vocab_size, data.seq_len),
        None => Dataset::held_out_tales(&tokenizer, vocab_size, data.seq_len),
    }
}

/// The held-out batches of replica `dp_rank` of `dp`, always in their order in the text.
pub fn batches(
    config: &Config,
    texts: &Texts,
    dp_rank: usize,
    dp: usize,
) -> Result<Option<Batches>> {
    let data = DataConfig { shuffle: false, ..config.data.clone() };
    let config = Config { data, ..config.clone() };
    let batches = |text| text::batches(&config, text, dp_rank, dp);
    texts.held_out.as_ref().map(batches).transpose()
}
