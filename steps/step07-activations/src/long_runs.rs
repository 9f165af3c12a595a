//! The settings that a real run needs: a look at held-out text, checkpoints, and a plan
//! before it starts.

use clap::Args;
use cli::{Gpu, whether_given};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The validation loss.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Evaluation {
    /// Held-out text for the validation loss; default: tales of their own, beside the built-in ones
    #[arg(long, value_name = "FILE", help_heading = "[data]")]
    #[serde(serialize_with = "whether_given")]
    pub eval_data: Option<PathBuf>,
    /// Compute the validation loss every N steps, and at the end
    #[arg(long, value_name = "N", help_heading = "[train]")]
    pub eval_every: Option<usize>,
    /// Global batches of held-out text that it is computed on, or all text if it has fewer
    #[arg(long, value_name = "N", help_heading = "[train]", default_value_t = 4)]
    pub eval_batches: usize,
}

/// What is kept of a run, and where another one goes on.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "[run]")]
pub struct Checkpoints {
    /// Write a checkpoint at the end
    #[arg(long, value_name = "DIR")]
    #[serde(serialize_with = "whether_given")]
    pub save: Option<PathBuf>,
    /// And one every N steps
    #[arg(long, value_name = "N")]
    pub save_every: Option<usize>,
    /// Keep the N newest, and delete older ones; default: all
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing)]
    pub save_keep: Option<usize>,
    /// Go on from a checkpoint, of any layout
    #[arg(long, value_name = "DIR")]
    #[serde(serialize_with = "whether_given")]
    pub resume: Option<PathBuf>,
    /// Write the trained weights in Hugging Face's format
    #[arg(long, value_name = "DIR")]
    #[serde(serialize_with = "whether_given")]
    pub export_hf: Option<PathBuf>,
}

/// A run on paper.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "[run]")]
pub struct Planning {
    /// Print layout, memory, communication and bubble, and stop
    #[arg(long)]
    #[serde(skip_serializing)]
    pub dry_run: bool,
    /// What a dry run predicts for: h100, h200 or a100
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing)]
    pub gpu: Gpu,
}
