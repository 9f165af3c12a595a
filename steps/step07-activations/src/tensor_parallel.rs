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
//!
//! With sequence parallelism, each rank has only some tokens of what is read and summed:
//! `sequence_parallel.rs` says what becomes of identity and sum.

use anyhow::Result;
use comm::{Group, Mesh};
use tch::Tensor;

use crate::activations::SpGather;
use crate::config::{Config, TpSync};

/// The ranks that share every matrix, and how they wait for each other.
#[derive(Clone)]
pub struct TensorParallel {
    pub(crate) group: Group,
    pub(crate) sync: TpSync,
    /// Whether each rank has its own tokens between f and g.
    pub sequence: bool,
    /// Whether what f gathers is kept until the backward pass.
    pub(crate) keeps_gathered: bool,
}

impl TensorParallel {
    /// The tp group of this rank.
    pub fn new(config: &Config, mesh: &Mesh) -> Self {
        let (group, settings) = (mesh.tp.clone(), &config.activations);
        let sequence = settings.sequence_parallel && group.size() > 1;
        let keeps_gathered = sequence && settings.sp_gather == SpGather::Once;
        Self { group, sync: config.parallel.tp_sync, sequence, keeps_gathered }
    }

    /// f: all tokens of `x`, of which each rank computes only some features. In the backward pass
    /// each rank has a part of the gradient: the whole is the sum over the ranks.
    pub fn f(&self, x: &Tensor) -> Result<Tensor> {
        let tp = self.clone();
        autograd::custom([x], &self.whole(&x.detach())?, move |grad| Ok([tp.sum(grad)?]))
    }

    /// g: the sum of the ranks' partial sums. Each partial sum has the same gradient as the whole
    /// sum.
    pub fn g(&self, partial: Tensor) -> Result<Tensor> {
        let tp = self.clone();
        let sum = self.sum(&partial.detach())?; // in place: the partial sum is not used again
        autograd::custom([&partial], &sum, move |grad| Ok([tp.whole(grad)?]))
    }
}
