//! What this crate asks of a step's settings.

use crate::{DataConfig, RunConfig, TrainConfig};
use anyhow::Result;
use checkpoint::LlamaConfig;
use comm::Layout;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::path::Path;

/// A step's settings: a struct whose fields are structs of flags.
///
/// Each flag stands under the help heading of its table in a file, such as `[train]`. A struct of
/// flags is called like the field that holds it, `Parallel` in `parallel`, or says so:
/// `#[group(id = "Train")]`.
/// What serde writes of the settings is what ranks must agree on; a field in which they may differ
/// is skipped there.
pub trait Settings: clap::Args + Serialize + DeserializeOwned + Clone + Debug {
    /// The parts that all steps have.
    fn common(&self) -> Common<'_>;

    /// Takes the model that `hf-model` names, and the GPUs that were found.
    fn settle(&mut self, model: LlamaConfig, run: RunConfig);

    /// How many ranks there are, and along which dimensions. One, where no flag says more.
    fn layout(&self) -> Layout {
        Layout::default()
    }

    /// Refuses those of the step's own flags that cannot work.
    ///
    /// # Errors
    /// One sentence that names the setting, its value and what would do.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What the step reads and writes besides what all steps do.
    fn extras(&self) -> Extras<'_> {
        Extras::default()
    }
}

/// The parts of the settings that all steps have.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    /// The architecture.
    pub model: &'a LlamaConfig,
    /// Where the weights come from; without it, from the seed.
    pub hf_model: Option<&'a Path>,
    /// What is read.
    pub data: &'a DataConfig,
    /// How it is learnt.
    pub train: &'a TrainConfig,
    /// Where and how the run takes place.
    pub run: &'a RunConfig,
}

/// What some steps read and write besides what all do; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// The run stops before it reads or writes a file or starts a rank.
    pub dry_run: bool,
    /// Held-out text.
    pub eval_data: Option<&'a Path>,
    /// Steps between two looks at it.
    pub eval_every: Option<usize>,
    /// Global batches of it.
    pub eval_batches: usize,
    /// A checkpoint to go on from.
    pub resume: Option<&'a Path>,
    /// Where checkpoints are written.
    pub save: Option<&'a Path>,
    /// Steps between two of them, besides the one at the end.
    pub save_every: Option<usize>,
    /// How many of them are kept.
    pub save_keep: Option<usize>,
    /// Where the trained weights are written.
    pub export_hf: Option<&'a Path>,
    /// Where a picture of the ranks' memory is written, with its data beside it.
    pub memory: Option<&'a Path>,
}

impl Common<'_> {
    /// Whether the data are tokens whose text is not known: from a file of them, without a
    /// tokenizer and with another vocabulary than that of bytes.
    pub fn has_unnamed_tokens(&self) -> bool {
        let tokens = self.data.data.as_deref().and_then(data::token_width).is_some();
        tokens && self.data.tokenizer.is_none() && self.model.vocab_size != 256
    }
}
