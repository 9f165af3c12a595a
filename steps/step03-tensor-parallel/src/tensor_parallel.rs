//! Tensor parallelism (Shoeybi et al., *Megatron-LM*, 2019): the ranks of a group read the same
//! tokens, and each holds a shard of every matrix.
//!
//! A matrix split by its outputs (column-parallel: Megatron writes x·A, and A's columns are the
//! rows of a Hugging Face weight) reads an `x` that all ranks hold, and gives each rank some of the
//! features. A matrix split by its inputs (row-parallel) reads such features, and gives each rank a
//! partial sum. Two operators do all the communication:
//!
//! * f, before a column-parallel matrix: forward the identity, backward a sum over the ranks.
//! * g, behind a row-parallel matrix: forward a sum over the ranks, backward the identity.

use anyhow::Result;
use autograd::Input;
use comm::{Group, Mesh};
use tch::Tensor;

use crate::config::{Config, TpSync};

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

    /// f: `x` unchanged, of any shape. Each rank computes only some features from it, so in the
    /// backward pass each rank has a part of its gradient: the whole is the sum over the ranks.
    pub fn f(&self, x: &Tensor) -> Result<Tensor> {
        let group = self.group.clone();
        autograd::custom([x], &x.detach(), move |grad| {
            group.all_reduce(grad)?; // in place: nothing else reads this gradient
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

    /// f, overlapped: its sum travels while the product computes the gradients of its weights.
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

    /// g: the sum of the ranks' partial sums, of any shape. Each partial sum has the same gradient
    /// as the whole sum, so the backward pass sends nothing.
    pub fn g(&self, partial: Tensor) -> Result<Tensor> {
        let sum = partial.detach(); // the same storage: the partial sum is not used again
        self.group.all_reduce(&sum)?;
        autograd::custom([&partial], &sum, |grad| Ok([grad.shallow_clone()]))
    }
}
