//! Checkpoints of a run: directories that appear whole or not at all.
//!
//! `DIR/step-000100/` holds one safetensors file for each rank that wrote, and `checkpoint.json`,
//! which says what is where. All of it is written under another name, and renamed when it is
//! complete: a directory with this name is a whole checkpoint, whenever the run was interrupted.

mod digest;
mod lock;
mod names;
mod reader;
mod writer;

pub use names::{delete_older, named_in};
pub use reader::CheckpointReader;
pub use writer::CheckpointWriter;

use crate::{LlamaConfig, Region};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MANIFEST: &str = "checkpoint.json";
/// The version of what `checkpoint.json` says. Format 1 described a part by one dimension and a
/// range of it; format 2 describes it by its offsets and extents in every dimension.
const FORMAT: u32 = 2;

/// The progress of a run, and what decides which samples come next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Updates made.
    pub step: usize,
    /// Sequences in a step of all replicas.
    pub global_batch: usize,
    /// Tokens in a sequence.
    pub seq_len: usize,
    /// The seed of the order of samples, if they are shuffled.
    pub shuffle: Option<u64>,
    /// Samples in the data.
    pub samples: usize,
    /// A fingerprint that distinguishes the data from others with as many samples.
    pub data: u64,
    /// Settings that may become others where a run goes on, by name: it tells what they were. Empty
    /// in a checkpoint from before they were kept.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// What one rank wrote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RankFile {
    file: String,
    bytes: u64,
    sha256: String,
    tensors: Vec<Piece>,
}

/// A tensor in a file: all of it, or a box of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// The tensor's name.
    pub name: String,
    /// The shape of the whole tensor.
    pub global_shape: Vec<i64>,
    /// The box of it that this is.
    #[serde(flatten)]
    pub region: Region,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    model: LlamaConfig,
    progress: Progress,
    files: Vec<RankFile>,
}
