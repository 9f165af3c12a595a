//! What a run that goes on from a checkpoint does otherwise than the run that wrote it.

use crate::{Config, TrainConfig};
use anyhow::{Context, Result};
use checkpoint::saved::Progress;
use std::collections::BTreeMap;
use std::io::Write;

impl Config {
    /// The settings, besides those that must stay as they are, that decide what further updates
    /// compute: for a checkpoint, by name, each as it is printed.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        // Destructured in full: whoever adds a setting decides here whether it belongs to them. The
        // seed does as far as samples are shuffled by it, and then it has to stay; how a batch is
        // cut into micro-batches changes only the order of sums.
        let TrainConfig {
            steps,
            micro_batch: _,
            global_batch: _,
            seed: _,
            lr,
            min_lr,
            warmup,
            weight_decay,
            clip,
            eval_every: _,
            eval_batches: _,
        } = &self.train;
        let settings = [
            ("steps", steps.to_string()),
            ("lr", format!("{lr:?}")),
            ("min-lr", format!("{min_lr:?}")),
            ("warmup", warmup.to_string()),
            ("weight-decay", format!("{weight_decay:?}")),
            ("clip", format!("{clip:?}")),
            ("dtype", self.run.dtype.to_string()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Prints [`Config::changes`], if there are any.
    pub fn tell_changes(
        &self,
        then: &Progress,
        learning_rate: impl Fn(&TrainConfig) -> f64,
    ) -> Result<()> {
        match self.changes(then, learning_rate) {
            None => Ok(()),
            Some(line) => writeln!(std::io::stdout(), "{line}").context("cannot tell what changes"),
        }
    }

    /// One line: which settings were others in the run that wrote the checkpoint, and what the
    /// learning rate of the next update becomes by that. `None` if there is no such setting or no
    /// such update, or the checkpoint is from before checkpoints kept them.
    pub fn changes(
        &self,
        then: &Progress,
        learning_rate: impl Fn(&TrainConfig) -> f64,
    ) -> Option<String> {
        let changes: Vec<String> = self
            .settings()
            .iter()
            .filter_map(|(name, now)| Some((name, then.settings.get(name)?, now)))
            .filter(|(_, was, now)| was != now)
            .map(|(name, was, now)| format!("{name} was {was} and becomes {now}"))
            .collect();
        if changes.is_empty() || then.step >= self.train.steps {
            return None;
        }
        let mut line = format!("goes on otherwise than before: {}", changes.join(", "));
        let learning_rate = |of: TrainConfig| format!("{:.2e}", learning_rate(&of));
        let [was, now] = [self.train_as(then)?, self.train.clone()].map(learning_rate);
        if was != now {
            let next = then.step + 1;
            line += &format!("; the learning rate of step {next} was {was} and becomes {now}");
        }
        Some(line)
    }

    /// These settings with the checkpoint's schedule of learning rates.
    fn train_as(&self, then: &Progress) -> Option<TrainConfig> {
        let setting = |name: &str| then.settings.get(name);
        Some(TrainConfig {
            steps: setting("steps")?.parse().ok()?,
            lr: setting("lr")?.parse().ok()?,
            min_lr: setting("min-lr")?.parse().ok()?,
            warmup: setting("warmup")?.parse().ok()?,
            ..self.train.clone()
        })
    }
}
