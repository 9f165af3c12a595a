//! The layers that everything else is built from, and how they get their weights.

use anyhow::Result;
use autograd::{Input, Stacked, recompute, swiglu};
use checkpoint::{LlamaConfig, Placement, Weights};
use comm::Coords;
use tch::Tensor;

use crate::tensor_parallel::TensorParallel;

/// The name of the embedding.
pub const EMBEDDING: &str = "model.embed_tokens.weight";

/// A trainable tensor, and which part of it each rank holds. Over dp and cp it is always
/// [`Placement::Partial`].
pub struct Parameter {
    /// As Hugging Face calls it.
    pub name: String,
    /// This rank's part, with its gradient in `.grad`.
    pub tensor: Tensor,
    /// The shape of the whole.
    pub global_shape: Vec<i64>,
    /// Whether weight decay acts on it: on matrices, and not on the gains of norms.
    pub decays: bool,
    /// Over the ranks of a tp group.
    pub tp: Placement,
    /// Over the stages. Most parameters are on one stage alone. An embedding that is also the head
    /// is on the first and on the last: its gradient is the sum of the two.
    pub pp: Placement,
}

impl Parameter {
    /// Whether the rank at `at` is the first of its replica that holds these numbers. Only
    /// the first one counts them.
    pub fn is_first(&self, at: Coords) -> bool {
        self.tp.is_first(at.tp) && self.pp.is_first(at.pp)
    }
}

/// Fetches weights by name, and lists those it has fetched.
pub struct Loader<'a> {
    /// Where they come from.
    pub weights: &'a Weights,
    /// Whose shards they are.
    pub tp: &'a TensorParallel,
    /// Whether the embedding is also the head.
    pub tied: bool,
    /// In the order of the forward pass.
    pub parameters: Vec<Parameter>,
}

impl Loader<'_> {
    /// The tensor `name` of the shape `global_shape`; with a `shard_dim`, this rank's shard along
    /// that dimension.
    pub fn get(
        &mut self,
        name: &str,
        global_shape: &[i64],
        shard_dim: Option<usize>,
    ) -> Result<Tensor> {
        let (rank, ranks) = (self.tp.group.rank(), self.tp.group.size());
        let tensor = match shard_dim {
            None => self.weights.get(name, global_shape)?,
            Some(dim) => self.weights.shard(name, global_shape, dim, rank, ranks)?,
        };
        let is_tied = self.tied && name == EMBEDDING;
        self.parameters.push(Parameter {
            name: name.to_owned(),
            tensor: tensor.shallow_clone(),
            global_shape: global_shape.to_vec(),
            decays: global_shape.len() == 2,
            tp: shard_dim.map_or(self.whole_on_tp(), Placement::Shard),
            pp: if is_tied { Placement::Partial } else { Placement::Alone },
        });
        Ok(tensor)
    }

    /// How tp ranks hold what they do not shard: norms. Each computes a part of their gradients
    /// where it has a part of the tokens.
    fn whole_on_tp(&self) -> Placement {
        if self.tp.sequence { Placement::Partial } else { Placement::Replicate }
    }
}

/// y = x·Wᵀ without bias, W split by its outputs. Several W that read the same `x` are fused
/// into one product.
pub struct ColumnParallelLinear {
    weights: Stacked, // [sum of outs/tp, in]
    tp: TensorParallel,
}

impl ColumnParallelLinear {
    /// `layers`: the name of each W, under `prefix`, and its number of outputs on all
    /// ranks together.
    pub fn new(
        load: &mut Loader,
        prefix: &str,
        layers: &[(&str, i64)],
        input: i64,
    ) -> Result<Self> {
        let get = |(name, out): &(&str, i64)| {
            load.get(&format!("{prefix}.{name}.weight"), &[*out, input], Some(0))
        };
        let weights = Stacked::new(layers.iter().map(get).collect::<Result<_>>()?);
        Ok(Self { weights, tp: load.tp.clone() })
    }

    /// `[.., in]` to `[.., sum of outs/tp]`, of all tokens. The product runs in the dtype of `x`;
    /// gradients are added up in that of the weights.
    pub fn forward(&self, x: Input) -> Result<Tensor> {
        self.weights.linear(self.tp.before_product(x)?)
    }

    /// SwiGLU of two W: silu(x·W₁ᵀ) ⊙ x·W₂ᵀ, `[.., in]` to `[.., out/tp]`. It works feature by
    /// feature, so each rank computes those that it has. With `again`, only the products are kept.
    pub fn swiglu(&self, x: Input, again: bool) -> Result<Input> {
        let both = self.weights.linear_by_feature(self.tp.before_product(x)?)?;
        if !again {
            return Ok(swiglu(&both)?.into());
        }
        let kept = both.detach();
        Ok(Input::again(&recompute(&both, swiglu)?, move || swiglu(&kept)))
    }
}

/// y = x·Wᵀ without bias, W split by its inputs.
pub struct RowParallelLinear {
    weight: Stacked, // [out, in/tp]
    tp: TensorParallel,
}

impl RowParallelLinear {
    /// `out` and `input` are those of the whole matrix.
    pub fn new(load: &mut Loader, name: &str, out: i64, input: i64) -> Result<Self> {
        let weight = load.get(&format!("{name}.weight"), &[out, input], Some(1))?;
        Ok(Self { weight: Stacked::new(vec![weight]), tp: load.tp.clone() })
    }

    /// `[.., in/tp]` to `[.., out]`, of this rank's tokens.
    pub fn forward(&self, x: impl Into<Input>) -> Result<Tensor> {
        self.tp.g(self.weight.linear(x)?)
    }
}

/// x / √(mean(x²) + ε) · w (Zhang & Sennrich, 2019).
pub struct RmsNorm {
    weight: Tensor, // [hidden]
    eps: f64,
}

impl RmsNorm {
    /// The norm whose weight is `name`.weight.
    pub fn new(config: &LlamaConfig, load: &mut Loader, name: &str) -> Result<Self> {
        let weight = load.get(&format!("{name}.weight"), &[config.hidden_size], None)?;
        Ok(Self { weight, eps: config.rms_norm_eps })
    }

    /// `[.., hidden]` to the same shape. A bf16 `x` is normalised in f32.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let weight = self.weight.to_kind(x.kind());
        x.rms_norm(weight.size(), Some(&weight), self.eps)
    }

    /// The same, for a product to read. With `again`, the product computes it once more from `x`,
    /// and does not keep it.
    pub fn before_product(&self, x: &Tensor, again: bool) -> Input {
        let out = self.forward(x);
        if !again {
            return out.into();
        }
        let norm = Self { weight: self.weight.detach(), eps: self.eps };
        let x = x.detach();
        Input::again(&out, move || Ok(norm.forward(&x)))
    }
}
