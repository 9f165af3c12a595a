//! The settings of this step: how much of a forward pass a rank keeps for the backward pass.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use cli::{DeviceName, whether_given, word};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

use crate::config::{Config, CpLayout, Parallel};

/// What is kept of activations.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "[parallel]")]
pub struct Activations {
    /// Share out the tokens among tp ranks wherever no matrix is split
    #[arg(long)]
    pub sequence_parallel: bool,
    /// How often a product's whole input is gathered: once and kept, or twice, again for the backward
    /// pass
    #[arg(long, value_name = "HOW")]
    pub sp_gather: SpGather,
    /// What is computed again in the backward pass, and not kept: none, elementwise or layer
    #[arg(long, value_name = "WHAT")]
    pub recompute: Recompute,
    /// Draw what each rank holds in memory over the last step, on a CPU
    #[arg(long, value_name = "FILE", help_heading = "[run]")]
    #[serde(serialize_with = "whether_given")]
    pub memory: Option<PathBuf>,
}

/// How often the tp ranks gather what a product reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpGather {
    /// In the forward pass. All tokens are kept until the backward pass.
    Once,
    /// Again in the backward pass. In between, a rank keeps its own tokens.
    Twice,
}

/// What the backward pass computes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Nothing.
    None,
    /// Norms and SwiGLU: their outputs are large, and cost few operations.
    Elementwise,
    /// Each layer whole, from its input.
    Layer,
}

impl Activations {
    /// Whether the tokens of a cp rank can be shared out evenly among the tp ranks.
    pub fn check(&self, config: &Config) -> Result<()> {
        let Parallel { cp, tp, cp_layout, .. } = config.parallel;
        // Zigzag needs two pieces for each cp rank.
        let pieces = if cp_layout == CpLayout::Zigzag && cp > 1 && tp % 2 == 1 { 2 } else { 1 };
        let (seq, parts) = (config.data.seq_len, cp * tp * pieces);
        ensure!(
            !self.sequence_parallel || tp == 1 || seq.is_multiple_of(parts),
            "seq-len is {seq}, but with sequence-parallel it must be a multiple of {parts}: cp {cp} ({}) and \
             tp {tp} cut a sequence into parts of equal length",
            word(&cp_layout)
        );
        if let Some(path) = &self.memory {
            ensure!(
                config.run.device == DeviceName::Cpu,
                "memory is {}, but device is cuda: what ranks hold is recorded on a CPU alone",
                path.display()
            );
        }
        Ok(())
    }

    /// The same, as a plan counts with it. A rank that is alone shares nothing out.
    pub fn planned(&self, tp: usize) -> plan::Activations {
        let sequence_parallel = self.sequence_parallel && tp > 1;
        plan::Activations {
            sequence_parallel,
            gather_twice: sequence_parallel && self.sp_gather == SpGather::Twice,
            recompute: match self.recompute {
                Recompute::None => plan::Recompute::None,
                Recompute::Elementwise => plan::Recompute::Elementwise,
                Recompute::Layer => plan::Recompute::Layer,
            },
        }
    }
}
