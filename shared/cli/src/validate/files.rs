//! Files that must be there, and directories to write to.

use crate::Config;
use anyhow::{Context, Result, bail, ensure};
use checkpoint::saved::{Progress, Saved};
use checkpoint::{LlamaConfig, Weights};
use serde_json::{Map, Value};
use std::path::Path;

/// The most a little-endian u16 can name.
const U16_VOCABULARY: i64 = 1 << 16;

pub(super) fn check(config: &Config) -> Result<()> {
    let run = &config.run;
    let (data, tokenizer) = (&config.data.data, &config.data.tokenizer);
    let eval_data = &config.data.eval_data;
    for (name, path) in [("data", data), ("tokenizer", tokenizer), ("eval-data", eval_data)] {
        path.as_deref().map_or(Ok(()), |path| file(name, path))?;
    }
    for (name, path) in [("data", data), ("eval-data", eval_data)] {
        path.as_deref().map_or(Ok(()), |path| vocabulary(config, name, path))?;
    }
    if let Some(path) = eval_data {
        ensure!(
            data::is_tokens(path) || !config.has_unnamed_tokens(),
            "eval-data {} is text, but data are tokens: text becomes the same ones only with their tokenizer",
            path.display()
        );
    }
    if let Some(dir) = &config.hf_model {
        let has = |name: &str| dir.join(name).is_file();
        ensure!(
            has("model.safetensors") || has("model.safetensors.index.json"),
            "hf-model {} has neither model.safetensors nor model.safetensors.index.json",
            dir.display()
        );
        // Only the headers are read here.
        Weights::open(dir, config.weights_kind(), config.device())
            .with_context(|| format!("hf-model {}", dir.display()))?;
    }
    for (name, path) in [("metrics", &run.metrics), ("trace", &run.trace)] {
        path.as_deref().map_or(Ok(()), |path| writable_file(name, path))?;
    }
    for (name, path) in [("save", &run.save), ("export-hf", &run.export_hf)] {
        if let Some(path) = path {
            let shown = path.display();
            ensure!(!path.exists() || path.is_dir(), "{name} {shown} is not a directory");
        }
    }
    if let Some(path) = &run.resume {
        resume(config, path).with_context(|| format!("resume {}", path.display()))?;
    }
    Ok(())
}

/// A checkpoint must be whole, of this model, and end where this run's data go on.
fn resume(config: &Config, path: &Path) -> Result<()> {
    ensure!(path.is_dir(), "it is not a directory");
    let saved = Saved::open(path)?;
    let shown = saved.dir().display();
    if let Some((field, theirs, ours)) = difference(saved.model(), &config.model)? {
        bail!("{shown} is of a model with {field} {theirs}, but this one has {ours}");
    }
    let Progress { step, global_batch, seq_len, shuffle, .. } = *saved.progress();
    let here = config.progress(step);
    let same = |field: &str, theirs: usize, ours: usize| {
        ensure!(
            theirs == ours,
            "{shown} was made with {field} {theirs}, and with {ours} its data would go on elsewhere"
        );
        Ok(())
    };
    same("global-batch", global_batch, here.global_batch)?;
    same("seq-len", seq_len, here.seq_len)?;
    ensure!(
        shuffle == here.shuffle,
        "{shown} was made with another order of the samples: shuffle or seed is not the same"
    );
    let steps = config.train.steps;
    ensure!(step < steps, "steps is {steps}, but {shown} has made {step} already");
    Ok(())
}

/// The first field in which two models differ: its name and both values.
fn difference(a: &LlamaConfig, b: &LlamaConfig) -> Result<Option<(String, Value, Value)>> {
    let [a, b] = [serde_json::to_value(a)?, serde_json::to_value(b)?];
    let [a, b] = [a.as_object().context("a")?, b.as_object().context("b")?];
    let value = |of: &Map<String, Value>, name: &str| of.get(name).cloned().unwrap_or(Value::Null);
    let names = a.keys().chain(b.keys());
    let mut all = names.map(|name| (name.clone(), value(a, name), value(b, name)));
    Ok(all.find(|(_, a, b)| a != b))
}

fn file(name: &str, path: &Path) -> Result<()> {
    let shown = path.display();
    let about =
        std::fs::metadata(path).with_context(|| format!("{name} {shown} cannot be read"))?;
    ensure!(about.is_file(), "{name} {shown} is not a file");
    Ok(())
}

fn vocabulary(config: &Config, name: &str, path: &Path) -> Result<()> {
    let (shown, vocab_size) = (path.display(), config.model.vocab_size);
    ensure!(
        !data::is_tokens(path) || vocab_size <= U16_VOCABULARY,
        "{name} {shown} holds u16 tokens, but vocab_size is {vocab_size} and u16 ends at {}",
        U16_VOCABULARY - 1
    );
    Ok(())
}

fn writable_file(name: &str, path: &Path) -> Result<()> {
    let shown = path.display();
    ensure!(!path.is_dir(), "{name} {shown} is a directory, but must be a file");
    ensure!(path.file_name().is_some(), "{name} {shown:?} is no name of a file");
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    ensure!(
        parent.is_none_or(Path::is_dir),
        "{name} {shown}: there is no directory {}",
        parent.unwrap_or(path).display()
    );
    Ok(())
}
