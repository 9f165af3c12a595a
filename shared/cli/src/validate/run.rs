//! Where and how the run takes place.

use crate::config::Config;
use anyhow::{Result, ensure};
use launch::{EnvWorld, Launcher};

pub(super) fn check(config: &Config, env: impl Fn(&str) -> Option<String>) -> Result<()> {
    let run = &config.run;
    ensure!(run.threads_per_rank != Some(0), "threads-per-rank is 0, but a rank needs at least 1");
    for (name, number) in [("save-every", run.save_every), ("save-keep", run.save_keep)] {
        let Some(number) = number else { continue };
        ensure!(number >= 1, "{name} is 0, but must be at least 1");
        ensure!(run.save.is_some(), "{name} is {number}, but needs save, which says where to");
    }
    if run.dry_run {
        return Ok(()); // it reads no text, starts no rank and needs no device
    }
    threads(run.threads_per_rank.unwrap_or(1))?;
    vocabulary(config)?;
    if run.launcher == Launcher::Env {
        EnvWorld::from_lookup(env)?.check(&config.parallel.layout)?;
    }
    Ok(())
}

/// If there are more threads than cores, they wait for each other at every operation, and a run
/// crawls.
fn threads(n: usize) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ensure!(
        n <= cores,
        "threads-per-rank is {n}, but must be at most the number of this machine's cores, {cores}"
    );
    Ok(())
}

/// The model must know the text's tokens, and a sample's tokens must become text.
fn vocabulary(config: &Config) -> Result<()> {
    let (sample, vocab_size) = (config.run.sample, config.model.vocab_size);
    if config.has_unnamed_tokens() {
        ensure!(
            sample == 0,
            "sample is {sample}, but tokens from a file need their tokenizer to become text: use --tokenizer, or --sample 0"
        );
        return Ok(());
    }
    if let (Some(dir), None) = (&config.hf_model, &config.data.tokenizer) {
        let theirs = dir.join("tokenizer.json");
        ensure!(
            vocab_size == 256 || !theirs.is_file(),
            "hf-model {} has a tokenizer, and text without one is bytes: use --tokenizer {}",
            dir.display(),
            theirs.display()
        );
    }
    let (tokenizer, prompt) = (config.tokenizer()?, &config.run.prompt);
    let size = tokenizer.vocab_size();
    let whose = match &config.data.tokenizer {
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
