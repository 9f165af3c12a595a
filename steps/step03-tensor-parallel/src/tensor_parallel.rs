//! Tensor parallelism (Shoeybi et al., *Megatron-LM*, 2019): the ranks of a group read the same
//! tokens, and each holds a shard of every matrix.
//!
//! A matrix split by its outputs (column-parallel: Megatron writes x·A, and A's columns are the rows
//! of a Hugging Face weight) turns an `x` that all ranks hold into features of which each rank holds
//! some. One split by its inputs (row-parallel) reads such features, and leaves every rank with a
//! partial sum. Two operators make a whole of it, and nothing else communicates:
//!
//! * f, before a column-parallel matrix: forward the identity, backward a sum over the ranks.
//! * g, behind a row-parallel matrix: forward a sum over the ranks, backward the identity.

use anyhow::Result;
use autograd::{Input, Stacked};
use comm::{Group, Mesh};
use tch::Tensor;

use crate::config::{Config, TpSync};
use crate::layers::Loader;

/// The ranks that share every matrix, and how they wait for each other.
#[derive(Clone)]
pub struct TensorParallel {
    pub(crate) group: Group,
    sync: TpSync,
}

impl TensorParallel {
    /// The tp group of this rank.
    pub fn new(config: &Config, mesh: &Mesh) -> Self {
        Self { group: mesh.tp.clone(), sync: config.parallel.tp_sync }
    }

    /// f: `x` as it is, of any shape. Behind it each rank computes some features, and in the backward
    /// pass gets the gradient of `x` through these; the whole gradient is the ranks' sum.
    pub fn f(&self, x: &Tensor) -> Result<Tensor> {
        let group = self.group.clone();
        autograd::custom([x], &x.detach(), move |grad| {
            group.all_reduce(grad)?; // in place: what stands behind f made it for f alone
            Ok([grad.shallow_clone()])
        })
    }

    /// f before a matrix product, as `tp-sync` says.
    pub fn before_product(&self, x: &Tensor) -> Result<Input> {
        Ok(match self.sync {
            TpSync::Blocking => self.f(x)?.into(),
            TpSync::Overlapped => self.f_overlapped(x),
        })
    }

    /// f, whose sum travels while the product behind it computes the gradients of its weights.
    fn f_overlapped(&self, x: &Tensor) -> Input {
        let group = self.group.clone();
        Input::with_grad(x, move |grad| {
            let sum = group.all_reduce_async(&grad);
            Ok(move || {
                sum.wait()?;
                Ok(grad)
            })
        })
    }

    /// g: the sum of the ranks' partial sums, of any shape. The gradient of a sum is the gradient of
    /// each term.
    pub fn g(&self, partial: Tensor) -> Result<Tensor> {
        let sum = partial.detach(); // the same storage: the partial sum is not used again
        self.group.all_reduce(&sum)?;
        autograd::custom([&partial], &sum, |grad| Ok([grad.shallow_clone()]))
    }
}

/// y = x·Wᵀ without bias, W split by its outputs. Several W that read the same `x` are fused into one
/// product.
pub struct ColumnParallelLinear {
    weights: Stacked, // [sum of outs/tp, in]
    tp: TensorParallel,
}

impl ColumnParallelLinear {
    /// `layers`: the name of each W, under `prefix`, and its number of outputs on all ranks together.
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

    /// `[.., in]` to `[.., sum of outs/tp]`. The product runs in the dtype of `x`; gradients are added
    /// up in that of the weights.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.weights.linear(self.tp.before_product(x)?)
    }

    /// SwiGLU of two W: silu(x·W₁ᵀ) ⊙ x·W₂ᵀ, `[.., in]` to `[.., out/tp]`. It works feature by
    /// feature, so each rank computes those that it has.
    pub fn swiglu(&self, x: &Tensor) -> Result<Tensor> {
        self.weights.swiglu(self.tp.before_product(x)?)
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

    /// `[.., in/tp]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.tp.g(self.weight.linear(x)?)
    }
}
