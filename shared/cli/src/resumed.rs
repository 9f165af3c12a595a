//! What a run that goes on from a checkpoint does otherwise than the run that wrote it.

use crate::agreement::{shown, written};
use crate::keys::Keys;
use crate::{Settings, TrainConfig};
use anyhow::{Context, Result};
use checkpoint::saved::Progress;
use data::Dataset;
use std::collections::BTreeMap;
use std::io::Write;

/// The progress of a run on `text` after `step` updates, for a checkpoint.
pub fn progress<C: Settings>(config: &C, text: &Dataset, step: usize) -> Progress {
    let common = config.common();
    Progress {
        step,
        global_batch: common.train.global_batch,
        seq_len: common.data.seq_len,
        shuffle: common.data.shuffle.then_some(common.train.seed),
        samples: text.samples(),
        data: text.fingerprint(),
        settings: settings(config),
    }
}

/// Of what stands in `[train]`, what decides no later update: how a batch is cut into micro-batches
/// changes only the order of sums, and what is kept beside the settings has to stay as it is. Of a
/// new setting it is told.
const UNTOLD: [&str; 5] = ["micro-batch", "global-batch", "seed", "eval-every", "eval-batches"];

/// The settings, besides those that must stay as they are, that decide what further updates
/// compute: for a checkpoint, by name, each as it is printed.
fn settings<C: Settings>(config: &C) -> BTreeMap<String, String> {
    let (keys, written) = (Keys::of::<C>(), written(config));
    let told = keys.flags().filter(|key| {
        key.name == "dtype" || (key.table == "train" && !UNTOLD.contains(&key.name.as_str()))
    });
    told.filter_map(|key| Some((key.name.clone(), shown(written.get(key)?)))).collect()
}

/// Prints [`changes`], if there are any.
///
/// # Errors
/// If standard output cannot be written.
pub fn tell_changes<C: Settings>(
    config: &C,
    then: &Progress,
    learning_rate: impl Fn(&TrainConfig) -> f64,
) -> Result<()> {
    match changes(config, then, learning_rate) {
        None => Ok(()),
        Some(line) => writeln!(std::io::stdout(), "{line}").context("cannot tell what changes"),
    }
}

/// One line: which settings were others in the run that wrote the checkpoint, and what the
/// learning rate of the next update becomes by that. `None` if there is no such setting or no
/// such update, or the checkpoint is from before checkpoints kept them.
pub fn changes<C: Settings>(
    config: &C,
    then: &Progress,
    learning_rate: impl Fn(&TrainConfig) -> f64,
) -> Option<String> {
    let train = config.common().train;
    let changes: Vec<String> = settings(config)
        .iter()
        .filter_map(|(name, now)| Some((name, then.settings.get(name)?, now)))
        .filter(|(_, was, now)| was != now)
        .map(|(name, was, now)| format!("{name} was {was} and becomes {now}"))
        .collect();
    if changes.is_empty() || then.step >= train.steps {
        return None;
    }
    let mut line = format!("goes on otherwise than before: {}", changes.join(", "));
    let learning_rate = |of: TrainConfig| format!("{:.2e}", learning_rate(&of));
    let [was, now] = [train_as(train, then)?, train.clone()].map(learning_rate);
    if was != now {
        let next = then.step + 1;
        line += &format!("; the learning rate of step {next} was {was} and becomes {now}");
    }
    Some(line)
}

/// `train` with the checkpoint's schedule of learning rates.
fn train_as(train: &TrainConfig, then: &Progress) -> Option<TrainConfig> {
    let setting = |name: &str| then.settings.get(name);
    Some(TrainConfig {
        steps: setting("steps")?.parse().ok()?,
        lr: setting("lr")?.parse().ok()?,
        min_lr: setting("min-lr")?.parse().ok()?,
        warmup: setting("warmup")?.parse().ok()?,
        ..train.clone()
    })
}
