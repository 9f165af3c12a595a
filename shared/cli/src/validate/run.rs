//! Where and how the run takes place.

use super::Asked;
use crate::{Common, RunConfig};
use anyhow::{Result, ensure};
use data::Tokenizer;
use launch::{EnvWorld, Launcher};

pub(super) fn check(asked: &Asked, env: impl Fn(&str) -> Option<String>) -> Result<()> {
    let (timeout, threads) = (asked.common.run.timeout, asked.common.run.threads_per_rank);
    // Less passes between any two messages of a run; more is longer than anyone waits, and clocks
    // overflow only far above it.
    ensure!(
        (0.001..=1e9).contains(&timeout),
        "timeout is {timeout:?}, but must be from 0.001 to 1e9 seconds"
    );
    ensure!(threads > 0, "threads-per-rank is 0, but a rank needs at least 1");
    ensure!(asked.common.run.log_every != Some(0), "log-every is 0, but must be at least 1");
    drawing(asked.common.run)?;
    if asked.extras.dry_run {
        return Ok(()); // it reads no text, starts no rank and needs no device
    }
    check_threads(threads)?;
    vocabulary(&asked.common)?;
    if asked.launcher == Launcher::Env {
        EnvWorld::from_lookup(env)?.check(&asked.layout)?;
    }
    Ok(())
}

/// How the sample's tokens are drawn.
fn drawing(run: &RunConfig) -> Result<()> {
    let RunConfig { temperature, top_k, .. } = run;
    // Logits that are divided by less are all equal, or infinite.
    ensure!(
        *temperature == 0.0 || (1e-3..=1e3).contains(temperature),
        "temperature is {temperature:?}, but must be from 0.001 to 1000, or 0, which draws the likeliest token"
    );
    ensure!(
        *top_k != Some(0),
        "top-k is 0, but must be at least 1: leave it out to draw among all tokens"
    );
    Ok(())
}

/// If there are more threads than cores, they wait for each other at every operation,
/// and a run crawls.
fn check_threads(n: usize) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ensure!(
        n <= cores,
        "threads-per-rank is {n}, but must be at most the number of this machine's cores, {cores}"
    );
    Ok(())
}

/// The model must know the text's tokens, and a sample's tokens must become text.
fn vocabulary(common: &Common) -> Result<()> {
    let (sample, vocab_size) = (common.run.sample, common.model.vocab_size);
    if common.has_unnamed_tokens() {
        ensure!(
            sample == 0,
            "sample is {sample}, but tokens from a file need their tokenizer to become text: use --tokenizer, or --sample 0"
        );
        return Ok(());
    }
    if let (Some(dir), None) = (common.hf_model, &common.data.tokenizer) {
        let theirs = dir.join("tokenizer.json");
        ensure!(
            vocab_size == 256 || !theirs.is_file(),
            "hf-model {} has a tokenizer, and text without one is bytes: use --tokenizer {}",
            dir.display(),
            theirs.display()
        );
    }
    let tokenizer = Tokenizer::open(common.data.tokenizer.as_deref())?;
    let prompt = &common.run.prompt;
    let size = tokenizer.vocab_size();
    let whose = match &common.data.tokenizer {
        Some(path) => format!("tokenizer {} has {size} tokens", path.display()),
        None => "text without a tokenizer is bytes".to_owned(),
    };
    ensure!(
        i64::try_from(size).is_ok_and(|size| size <= vocab_size),
        "vocab_size is {vocab_size}, but must be at least {size}: {whose}"
    );
    ensure!(
        sample == 0 || !prompt.is_empty(),
        "prompt is empty, but a sample of {sample} tokens has to begin with something"
    );
    if sample == 0 {
        return Ok(());
    }
    let tokens = tokenizer.encode(prompt)?;
    ensure!(
        !tokens.is_empty(),
        "prompt is {prompt:?}, but the tokenizer makes no token of it, and a sample of {sample} tokens has \
         to begin with something"
    );
    let unknown = tokens.into_iter().find(|&token| i64::from(token) >= vocab_size);
    ensure!(
        unknown.is_none(),
        "prompt is {prompt:?}, but its token {} is outside the vocabulary of {vocab_size}: use another prompt",
        unknown.unwrap_or_default()
    );
    Ok(())
}
