//! The settings that all steps have, each under its flag's name.

use crate::words::word;
use crate::{shortened, whether_given};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// What is read.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "[data]")]
#[group(id = "Data")]
pub struct DataConfig {
    /// Train on a file: text (UTF-8), or little-endian tokens: .bin (u16), .u32; default:
    /// the built-in tales
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "whether_given")]
    pub data: Option<PathBuf>,
    /// A Hugging Face tokenizer.json; default: bytes
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "whether_given")]
    pub tokenizer: Option<PathBuf>,
    /// Where the tokens of a long text are kept, for the other processes and later runs;
    /// default: beside it
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing)]
    pub data_cache: Option<PathBuf>,
    /// Tokens in a sample
    #[arg(long, value_name = "S")]
    pub seq_len: usize,
    /// Another order of the samples in every epoch
    #[arg(long)]
    pub shuffle: bool,
}

/// How it is learnt.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "[train]")]
#[group(id = "Train")]
pub struct TrainConfig {
    /// Updates of the weights
    #[arg(long, value_name = "N")]
    pub steps: usize,
    /// Sequences that go through the model at once
    #[arg(long, value_name = "B")]
    pub micro_batch: usize,
    /// Sequences in one update
    #[arg(long, value_name = "G")]
    pub global_batch: usize,
    /// Seed of the initial weights, of shuffling and of the sample
    #[arg(long, value_name = "N")]
    pub seed: u64,
    /// Highest learning rate
    #[arg(long, value_name = "X")]
    pub lr: f64,
    /// Learning rate at the end; a tenth of lr where only lr is given
    #[arg(long, value_name = "X")]
    pub min_lr: f64,
    /// Steps of rising learning rate; at most steps where only steps is given, or by a
    /// flag over a file
    #[arg(long, value_name = "N")]
    pub warmup: usize,
    /// AdamW's weight decay, on matrices only
    #[arg(long, value_name = "X")]
    pub weight_decay: f64,
    /// Highest norm of the whole gradient; 0 turns clipping off
    #[arg(long, value_name = "X")]
    pub clip: f64,
}

/// Where and how the run takes place.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[command(next_help_heading = "[run]")]
#[group(id = "Run")]
pub struct RunConfig {
    /// cpu or cuda
    #[arg(long, value_name = "D")]
    pub device: DeviceName,
    /// f32, f64 or bf16 (computes in bf16 on weights in f32)
    #[arg(long, value_name = "T")]
    pub dtype: Dtype,
    /// What a rank is: threads, processes, or env where torchrun or the like has started it;
    /// default: env where RANK and WORLD_SIZE are set, else threads on cpu and processes on cuda
    #[arg(long, value_name = "HOW")]
    #[serde(skip_serializing)]
    pub launcher: Option<LauncherName>,
    /// Threads inside an operation
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[serde(skip_serializing)]
    pub threads_per_rank: usize,
    /// Longest wait for another rank
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing)]
    pub timeout: f64,
    /// Write one JSON object per step
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing)]
    pub metrics: Option<PathBuf>,
    /// Print a line every N steps; default: every ten seconds, and on a terminal a bar alone
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing)]
    pub log_every: Option<usize>,
    /// Draw the losses at the end (.svg)
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing)]
    pub plot: Option<PathBuf>,
    /// Write the numbers of every step for TensorBoard
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing)]
    pub tensorboard: Option<PathBuf>,
    /// Write a trace of every rank, for Perfetto or Chrome, and beside it a chart of the
    /// last step (.svg)
    #[arg(long, value_name = "FILE")]
    #[serde(serialize_with = "whether_given")]
    pub trace: Option<PathBuf>,
    /// Tokens of text to write after training
    #[arg(long, value_name = "N")]
    pub sample: usize,
    /// What the sample begins with
    #[arg(long, value_name = "TEXT")]
    #[serde(serialize_with = "shortened")]
    pub prompt: String,
    /// How the sample's tokens are drawn: below 1 likely ones become likelier; 0: always
    /// the likeliest
    #[arg(long, value_name = "T")]
    pub temperature: f64,
    /// Draw among the K likeliest tokens; default: all
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// On cuda, the GPU of this process's rank: found, not set.
    #[arg(skip)]
    #[serde(skip)]
    pub gpu_of_rank: Option<launch::Gpu>,
    /// On cuda, how many GPUs all ranks have together: fewer than ranks where they share them.
    #[arg(skip)]
    #[serde(skip)]
    pub gpus: usize,
}

impl RunConfig {
    /// What is computed in.
    pub fn kind(&self) -> tch::Kind {
        match self.dtype {
            Dtype::F32 => tch::Kind::Float,
            Dtype::F64 => tch::Kind::Double,
            Dtype::Bf16 => tch::Kind::BFloat16,
        }
    }

    /// What weights, gradients and optimiser states are kept in.
    pub fn weights_kind(&self) -> tch::Kind {
        match self.dtype {
            Dtype::F32 | Dtype::Bf16 => tch::Kind::Float,
            Dtype::F64 => tch::Kind::Double,
        }
    }

    /// Where this process computes: on cuda, the GPU of its rank.
    pub fn device(&self) -> tch::Device {
        match self.device {
            DeviceName::Cpu => tch::Device::Cpu,
            DeviceName::Cuda => tch::Device::Cuda(self.gpu_of_rank.map_or(0, |gpu| gpu.ordinal)),
        }
    }
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
}

/// What is computed in. Weights and optimiser are f32 under bf16, else of the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// Four bytes.
    F32,
    /// Eight bytes.
    F64,
    /// Two bytes, with the range of f32.
    Bf16,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&word(self))
    }
}

/// What a rank is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LauncherName {
    /// A thread of this process.
    Threads,
    /// A process on this host, which this one starts.
    Processes,
    /// This process, which another program has started.
    Env,
}
