//! The two layers that everything else is made of, and how they get their weights.

use anyhow::Result;
use checkpoint::{LlamaConfig, Weights};
use std::ops::Range;
use tch::Tensor;

use crate::context_parallel::ContextParallel;
use crate::tensor_parallel::TensorParallel;

/// The name of the embedding.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// A trainable tensor under its Hugging Face name.
pub struct Parameter {
    pub name: String,
    pub tensor: Tensor,
    /// The dimension along which tensor-parallel ranks share it; `None`: each holds all of it.
    pub split: Option<i64>,
    /// Whether the first and the last stage both hold it: the embedding, where it is the head too.
    pub tied: bool,
    /// Of all of it.
    pub shape: Vec<i64>,
    /// Along `split`, the part that this rank holds.
    pub range: Range<i64>,
}

/// The part of `length` rows that rank `rank` of `ranks` holds.
pub fn part(length: i64, rank: usize, ranks: usize) -> Range<i64> {
    let start = |rank: usize| length * rank as i64 / ranks as i64;
    start(rank)..start(rank + 1)
}

/// Fetches weights by name and remembers what it gave out.
pub struct Loader<'a> {
    pub weights: &'a Weights,
    pub tp: &'a TensorParallel,
    pub cp: &'a ContextParallel,
    /// Whether the embedding is the head too.
    pub tied: bool,
    /// In the order of the forward pass.
    pub parameters: Vec<Parameter>,
}

impl Loader<'_> {
    pub fn whole(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.get(name, shape, None)
    }

    /// This rank's part along dimension `dim` of a tensor whose whole shape is `shape`.
    pub fn split(&mut self, name: &str, shape: &[i64], dim: i64) -> Result<Tensor> {
        self.get(name, shape, Some(dim))
    }

    fn get(&mut self, name: &str, shape: &[i64], split: Option<i64>) -> Result<Tensor> {
        let (rank, ranks) = (self.tp.group.rank(), self.tp.group.size());
        let tensor = match split {
            None => self.weights.get(name, shape)?,
            Some(dim) => self.weights.shard(name, shape, dim as usize, rank, ranks)?,
        };
        let name = name.to_owned();
        let tied = self.tied && name == EMBEDDING;
        let (held, shape) = (tensor.shallow_clone(), shape.to_vec());
        let range = part(shape[split.unwrap_or(0) as usize], rank, ranks);
        self.parameters.push(Parameter { name, tensor: held, split, tied, shape, range });
        Ok(tensor)
    }
}

/// y = x·Wᵀ, without bias; W split by its outputs.
pub struct ColumnLinear {
    pub weight: Tensor, // [out/tp, in]
    pub tp: TensorParallel,
}

impl ColumnLinear {
    pub fn new(load: &mut Loader, name: &str, out: i64, input: i64) -> Result<Self> {
        let weight = load.split(&format!("{name}.weight"), &[out, input], 0)?;
        Ok(Self { weight, tp: load.tp.clone() })
    }

    /// What several layers make of the same `x`, in one product: their weights stand below each
    /// other.
    pub fn together<const N: usize>(layers: [&Self; N], x: &Tensor) -> Result<[Tensor; N]> {
        let weight = Tensor::cat(&layers.map(|layer| &layer.weight), 0); // [sum of outs/tp, in]
        let outs = layers.map(|layer| layer.weight.size()[0]);
        let out = layers[0].tp.column(x, &weight)?; // [.., sum of outs/tp]
        let mut parts = out.split_with_sizes(outs, -1).into_iter();
        Ok(outs.map(|_| parts.next().expect("split into as many")))
    }
}

/// y = x·Wᵀ, without bias; W split by its inputs.
pub struct RowLinear {
    weight: Tensor, // [out, in/tp]
    tp: TensorParallel,
}

impl RowLinear {
    pub fn new(load: &mut Loader, name: &str, out: i64, input: i64) -> Result<Self> {
        let weight = load.split(&format!("{name}.weight"), &[out, input], 1)?;
        Ok(Self { weight, tp: load.tp.clone() })
    }

    /// `[.., in/tp]` to `[.., out]`. The product runs in the dtype of `x`; where the weight is kept
    /// in another, autograd casts its gradient back.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let part = x.linear(&self.weight.to_kind(x.kind()), None::<&Tensor>); // [.., out]
        self.tp.sum(&part)
    }
}

/// x / √(mean(x²) + ε) · w (Zhang & Sennrich, 2019).
pub struct RmsNorm {
    weight: Tensor, // [hidden]
    eps: f64,
}

impl RmsNorm {
    pub fn new(config: &LlamaConfig, load: &mut Loader, name: &str) -> Result<Self> {
        let weight = load.whole(&format!("{name}.weight"), &[config.hidden_size])?;
        Ok(Self { weight, eps: config.rms_norm_eps })
    }

    /// `[.., hidden]` to the same shape. The mean is taken in the weight's dtype (f32 under bf16).
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let wide = x.to_kind(self.weight.kind());
        wide.rms_norm(self.weight.size(), Some(&self.weight), self.eps).to_kind(x.kind())
    }
}
