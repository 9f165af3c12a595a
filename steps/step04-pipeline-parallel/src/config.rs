//! The settings of this step. Each field of these structs is a flag, and a key of a
//! configuration file.

use anyhow::{Result, ensure};
use checkpoint::LlamaConfig;
use clap::{Args, ValueEnum};
use cli::{Common, DataConfig, RunConfig, Settings, TrainConfig, whether_given};
use comm::Layout;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// All settings. The fields of a struct that is flattened here are flags like the others.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The architecture: keys of `[model]`, and no flags.
    #[arg(skip)]
    pub model: LlamaConfig,
    /// Architecture and weights from a Hugging Face directory
    #[arg(long, value_name = "DIR", help_heading = "[model]")]
    #[serde(serialize_with = "whether_given")]
    pub hf_model: Option<PathBuf>,
    /// The text to train on.
    #[command(flatten)]
    pub data: DataConfig,
    /// How the model is trained.
    #[command(flatten)]
    pub train: TrainConfig,
    /// The ranks, and how they work together.
    #[command(flatten)]
    pub parallel: Parallel,
    /// Where and how the run takes place.
    #[command(flatten)]
    pub run: RunConfig,
}

/// How the work is split, and how the parts are put together.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "[parallel]")]
pub struct Parallel {
    /// Replicas of the model, each with its share of the batch
    #[arg(long, value_name = "N")]
    pub dp: usize,
    /// How gradients are summed over replicas: naive after the backward pass, bucketed during it
    #[arg(long, value_name = "HOW")]
    pub dp_sync: DpSync,
    /// MiB of gradients in one bucket
    #[arg(long, value_name = "X")]
    pub bucket_mb: f64,
    /// Ranks that share every matrix
    #[arg(long, value_name = "N")]
    pub tp: usize,
    /// When gradients of activations are summed over tp ranks: blocking, or overlapped with the
    /// weights' gradients
    #[arg(long, value_name = "HOW")]
    pub tp_sync: TpSync,
    /// Stages of the pipeline
    #[arg(long, value_name = "N")]
    pub pp: usize,
    /// Order of the passes in the pipeline: 1f1b or afab
    #[arg(long, value_name = "HOW")]
    pub schedule: Schedule,
}

/// How gradients are summed over replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DpSync {
    /// One all-reduce per parameter, after the backward pass.
    Naive,
    /// Many parameters to an all-reduce, while the backward pass goes on.
    Bucketed,
}

/// When gradients of activations are summed over tp ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TpSync {
    /// The gradient of the weight first, then the sum of the input's gradient.
    Blocking,
    /// Both at once.
    Overlapped,
}

/// The order of the passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Schedule {
    /// One forward pass, one backward pass, in turn.
    #[value(name = "1f1b")]
    #[serde(rename = "1f1b")]
    OneForwardOneBackward,
    /// All forward passes, then all backward passes.
    #[value(name = "afab")]
    #[serde(rename = "afab")]
    AllForwardAllBackward,
}

impl Parallel {
    /// The ranks along each dimension.
    pub fn layout(&self) -> Layout {
        Layout { dp: self.dp, pp: self.pp, tp: self.tp, ..Layout::default() }
    }

    /// Size of a gradient bucket in bytes.
    pub fn bucket_bytes(&self) -> usize {
        (self.bucket_mb * 1048576.0) as usize
    }
}

impl Settings for Config {
    fn common(&self) -> Common<'_> {
        let Self { model, hf_model, data, train, run, .. } = self;
        Common { model, hf_model: hf_model.as_deref(), data, train, run }
    }

    fn settle(&mut self, model: LlamaConfig, run: RunConfig) {
        (self.model, self.run) = (model, run);
    }

    fn layout(&self) -> Layout {
        self.parallel.layout()
    }

    fn check(&self) -> Result<()> {
        let Parallel { bucket_mb, tp, pp, .. } = self.parallel;
        ensure!(bucket_mb > 0.0, "bucket-mb is {bucket_mb:?}, but must be above 0");
        let model = &self.model;
        for (name, size) in [
            ("num_attention_heads", model.num_attention_heads),
            ("num_key_value_heads", model.kv_heads()),
            ("intermediate_size", model.intermediate_size),
        ] {
            ensure!(size % tp as i64 == 0, "tp is {tp}, but must divide {name} {size}");
        }
        let vocab_size = model.vocab_size;
        ensure!(
            tp as i64 <= vocab_size,
            "tp is {tp}, but must be at most vocab_size {vocab_size}: every rank needs a token"
        );
        let layers = model.num_hidden_layers;
        ensure!(
            pp as i64 <= layers,
            "pp is {pp}, but must be at most num_hidden_layers {layers}: every stage needs a layer"
        );
        Ok(())
    }
}
