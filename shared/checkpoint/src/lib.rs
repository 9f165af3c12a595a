//! Where weights come from, a Hugging Face directory or a seed; which part of them a rank holds;
//! and checkpoints that put the parts together again.

#![warn(missing_docs)]

mod beside;
mod config;
mod export;
mod hf_config;
mod hf_keys;
mod hf_rope;
mod mapped;
mod placement;
mod pointer;
mod safetensors_dir;
pub mod saved;
mod seeded;
mod shapes;
mod special_tokens;

pub use beside::{copy_tokenizer, is_beside};
pub use config::{LlamaConfig, RopeScaling};
pub use export::{finish_weights, write_weights};
pub use placement::{Placement, Region, shard_range};
pub use pointer::refuse_pointer;
pub use special_tokens::end_token;

use anyhow::{Context, Result};
use safetensors_dir::SafetensorsDir;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// Checks that `dir` holds the weights of the model `config`: all of them and no others, each of
/// its shape. Reads only headers, except for a head that `config` ties to the embedding.
///
/// # Errors
/// One sentence that names the first weight which is wrong.
pub fn check_weights(dir: &Path, config: &LlamaConfig) -> Result<()> {
    SafetensorsDir::open(dir)?.check(config)
}

/// The source of a model's initial weights, by Hugging Face name.
///
/// What a name holds depends on the source alone, never on how the model is split: a rank that asks
/// for a slice gets exactly the numbers of that slice in the whole tensor. From a file it reads
/// only those; from a seed it also draws the numbers before them in each row.
pub struct Weights {
    source: Source,
    kind: Kind,
    device: Device,
}

enum Source {
    Seeded { seed: u64, layers: i64 },
    Directory(SafetensorsDir),
}

impl Weights {
    /// Fresh weights: Normal(0, 0.02) for matrices, scaled by 1/√(2·layers) where they write to the
    /// residual stream (GPT-2's initialisation), ones for norms.
    pub fn seeded(seed: u64, config: &LlamaConfig, kind: Kind, device: Device) -> Self {
        Self { source: Source::Seeded { seed, layers: config.num_hidden_layers }, kind, device }
    }

    /// The weights in `model.safetensors`, or in the shards of `model.safetensors.index.json`.
    pub fn open(dir: &Path, kind: Kind, device: Device) -> Result<Self> {
        Ok(Self { source: Source::Directory(SafetensorsDir::open(dir)?), kind, device })
    }

    /// The whole tensor `name`, which must have this shape; a leaf that requires a gradient.
    pub fn get(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.shard(name, shape, 0, 0, 1)
    }

    /// The shard of rank `rank` of `ranks`, see [`shard_range`], along dimension `dim` of the
    /// tensor `name`, whose whole shape is `shape` (one or two dimensions); a leaf that
    /// requires a gradient.
    pub fn shard(
        &self,
        name: &str,
        shape: &[i64],
        dim: usize,
        rank: usize,
        ranks: usize,
    ) -> Result<Tensor> {
        let region = Placement::Shard(dim).region(shape, rank, ranks);
        let slice = region.inside(&Region::whole(shape));
        let numbers = match &self.source {
            Source::Seeded { seed, layers } => seeded::draw(*seed, *layers, name, &slice),
            Source::Directory(dir) => dir.read(name, shape, &slice),
        };
        let numbers = numbers.with_context(|| format!("weight {name}"))?;
        Ok(numbers.to_device(self.device).to_kind(self.kind).set_requires_grad(true))
    }
}
