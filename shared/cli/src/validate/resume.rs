//! A checkpoint to resume from.

use crate::Settings;
use crate::keys::spelt_out;
use anyhow::{Context, Result, bail, ensure};
use checkpoint::LlamaConfig;
use checkpoint::saved::{CheckpointReader, Progress};
use serde_json::{Map, Value};
use std::path::Path;

/// The checkpoint to resume from, if there is one.
pub(super) fn check(config: &impl Settings, here: &Progress) -> Result<Option<CheckpointReader>> {
    let Some(path) = config.extras().resume else { return Ok(None) };
    resume(config, here, path).map(Some).with_context(|| format!("resume {}", path.display()))
}

/// A checkpoint must be whole, of this model, and made with this run's data.
fn resume(config: &impl Settings, here: &Progress, path: &Path) -> Result<CheckpointReader> {
    ensure!(path.is_dir(), "it is not a directory");
    let saved = CheckpointReader::open(path)?;
    let shown = saved.dir().display();
    if let Some((field, theirs, ours)) = difference(saved.model(), config.common().model)? {
        bail!("{shown} is of a model with {field} {theirs}, but this one has {ours}");
    }
    let &Progress { step, global_batch, seq_len, shuffle, samples, data, settings: _ } =
        saved.progress();
    let same = |field: &str, theirs: usize, ours: usize| {
        ensure!(
            theirs == ours,
            "{shown} was made with {field} {theirs}, and with {ours} its data would continue elsewhere"
        );
        Ok(())
    };
    same("global-batch", global_batch, here.global_batch)?;
    same("seq-len", seq_len, here.seq_len)?;
    ensure!(
        shuffle == here.shuffle,
        "{shown} was made with another order of the samples: shuffle and seed must be the same"
    );
    let ours = here.samples;
    ensure!(
        samples == ours,
        "{shown} was made with data of {samples} samples, but these have {ours}: resume with the same data"
    );
    ensure!(data == here.data, "{shown} was made with other data: resume with the same data");
    // Equal is no mistake: a finished model may still be sampled and exported.
    let steps = config.common().train.steps;
    ensure!(step <= steps, "steps is {steps}, but {shown} has made {step} already");
    Ok(saved)
}

/// The first field in which two models differ: its name and both values.
fn difference(a: &LlamaConfig, b: &LlamaConfig) -> Result<Option<(String, Value, Value)>> {
    // One may spell out what the other leaves to its default.
    let value = |model| serde_json::to_value(spelt_out(model));
    let [a, b] = [value(a)?, value(b)?];
    let [a, b] = [a.as_object().context("a")?, b.as_object().context("b")?];
    let value = |of: &Map<String, Value>, name: &str| of.get(name).cloned().unwrap_or(Value::Null);
    let names = a.keys().chain(b.keys());
    let mut all = names.map(|name| (name.clone(), value(a, name), value(b, name)));
    Ok(all.find(|(_, a, b)| a != b))
}
