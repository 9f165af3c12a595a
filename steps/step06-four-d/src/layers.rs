//! The layers that everything else is built from, and how they get their weights.

use anyhow::Result;
use checkpoint::{LlamaConfig, Weights};
use tch::Tensor;

use crate::context_parallel::ContextParallel;
use crate::tensor_parallel::TensorParallel;

/// The name of the embedding.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// A trainable tensor under its Hugging Face name.
pub struct Parameter {
    pub name: String,
    pub tensor: Tensor,
    /// The dimension along which it is split over tp ranks; `None`: each holds all of it.
    pub split: Option<usize>,
    /// Whether it is the embedding and also the head. If these are on two stages, each has a copy.
    pub tied: bool,
    /// The shape of the whole, of which `tensor` may be a shard.
    pub shape: Vec<i64>,
}

/// Fetches weights by name, and lists those it has fetched.
pub struct Loader<'a> {
    pub weights: &'a Weights,
    pub tp: &'a TensorParallel,
    pub cp: &'a ContextParallel,
    /// Whether the embedding is also the head.
    pub tied: bool,
    /// In the order of the forward pass.
    pub parameters: Vec<Parameter>,
}

impl Loader<'_> {
    /// The tensor `name`, whose whole shape is `shape`; with a `split`, this rank's shard along that
    /// dimension.
    pub fn get(&mut self, name: &str, shape: &[i64], split: Option<usize>) -> Result<Tensor> {
        let (rank, ranks) = (self.tp.group.rank(), self.tp.group.size());
        let tensor = match split {
            None => self.weights.get(name, shape)?,
            Some(dim) => self.weights.shard(name, shape, dim, rank, ranks)?,
        };
        let name = name.to_owned();
        let tied = self.tied && name == EMBEDDING;
        let (held, shape) = (tensor.shallow_clone(), shape.to_vec());
        self.parameters.push(Parameter { name, tensor: held, split, tied, shape });
        Ok(tensor)
    }
}

/// x / √(mean(x²) + ε) · w (Zhang & Sennrich, 2019).
pub struct RmsNorm {
    weight: Tensor, // [hidden]
    eps: f64,
}

impl RmsNorm {
    pub fn new(config: &LlamaConfig, load: &mut Loader, name: &str) -> Result<Self> {
        let weight = load.get(&format!("{name}.weight"), &[config.hidden_size], None)?;
        Ok(Self { weight, eps: config.rms_norm_eps })
    }

    /// `[.., hidden]` to the same shape. A bf16 `x` is normalised in f32.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let weight = self.weight.to_kind(x.kind());
        x.rms_norm(weight.size(), Some(&weight), self.eps)
    }
}
