//! The settings of this step. Each field of these structs is a flag, and a key of a
//! configuration file.

use checkpoint::LlamaConfig;
use clap::Args;
use cli::{Common, DataConfig, RunConfig, Settings, TrainConfig, whether_given};
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
    /// Where and how the run takes place.
    #[command(flatten)]
    pub run: RunConfig,
}

impl Settings for Config {
    fn common(&self) -> Common<'_> {
        let Self { model, hf_model, data, train, run, .. } = self;
        Common { model, hf_model: hf_model.as_deref(), data, train, run }
    }

    fn settle(&mut self, model: LlamaConfig, run: RunConfig) {
        (self.model, self.run) = (model, run);
    }
}
