//! Tensor parallelism (Shoeybi et al., *Megatron-LM*, 2019): the ranks of a group read the same
//! tokens, and each holds a shard of every matrix.
//!
//! A matrix split by its outputs (column-parallel: Megatron writes x·A, and A's columns are the rows
//! of a Hugging Face weight) turns an `x` that all ranks hold into features of which each rank holds
//! some. One split by its inputs (row-parallel) reads such features, and leaves every rank with a
//! partial sum. So a column-parallel matrix and a row-parallel one behind it cost one sum in the
//! forward pass, after the second, and one in the backward pass, before the first.

use anyhow::Result;
use autograd::Stacked;
use checkpoint::shard_range;
use cli::{Config, TpSync};
use comm::{Group, Mesh, Work};
use std::ops::Range;
use tch::Tensor;

#[derive(Clone)]
pub struct TensorParallel {
    pub group: Group,
    sync: TpSync,
    pub vocab_size: i64,
    /// The token ids whose rows of embedding and head are this rank's. If the vocabulary does not
    /// divide evenly, some ranks hold one row more; Megatron pads it instead.
    vocab: Range<i64>,
}

impl TensorParallel {
    pub fn new(config: &Config, mesh: &Mesh) -> Self {
        let (group, vocab_size) = (mesh.tp.clone(), config.model.vocab_size);
        let vocab = shard_range(vocab_size, group.rank(), group.size());
        Self { group, sync: config.parallel.tp_sync, vocab_size, vocab }
    }

    /// x·Wᵀ for weights split by their outputs. `x`: `[.., in]`, whole; `weights`: `[out/tp, in]`;
    /// returns `[.., out/tp]`, in the memory layout of `product`.
    ///
    /// In the backward pass each rank gets the gradient of `x` through its own outputs; the whole
    /// gradient is their sum over the ranks (Megatron's f). That sum can travel while the gradient of
    /// the weights is computed.
    pub fn column(
        &self,
        x: &Tensor,
        weights: &Stacked,
        product: fn(&Tensor, &Tensor) -> Tensor,
    ) -> Result<Tensor> {
        let (w, x_in) = (weights.get(x.kind()), x.detach()); // [out/tp, in], [.., in]
        let out = tch::no_grad(|| product(&x_in, &w)); // [.., out/tp]
        let (tp, grads) = (self.clone(), weights.grads());
        weights.custom([x], &out, move |grad| {
            let grad_x = grad.matmul(&w); // [.., in], a partial sum
            let sum = tp.start_sum(&grad_x)?;
            grads.add(grad, &x_in)?; // [out/tp, in]
            sum.wait()?;
            Ok([grad_x])
        })
    }

    /// The sum of the ranks' partial sums, of any shape. Its backward pass is the identity: the
    /// gradient of a sum is the gradient of each term (Megatron's g).
    pub fn sum(&self, partial: Tensor) -> Result<Tensor> {
        let sum = partial.detach(); // the same storage: the partial sum is not used again
        self.group.all_reduce(&sum)?;
        autograd::custom([&partial], &sum, |grad| Ok([grad.shallow_clone()]))
    }

    /// Rows of `weight`, `[vocab/tp, hidden]`, for the tokens in this rank's shard, and zeros for the
    /// others: a partial sum of the embedding. `tokens`: `[batch, seq]`; returns `[batch, seq,
    /// hidden]`.
    pub fn embedding(&self, tokens: &Tensor, weight: &Tensor) -> Tensor {
        let (rows, outside) = self.shard_ids(tokens);
        let found = Tensor::embedding(weight, &rows, -1, false, false); // [batch, seq, hidden]
        found.masked_fill(&outside.unsqueeze(-1), 0.0)
    }

    /// Whole logits from the shards that the ranks hold: `[vocab/tp]` each to `[vocab]`.
    pub fn gather(&self, shard: &Tensor) -> Result<Tensor> {
        let all = Tensor::zeros([self.vocab_size], (shard.kind(), shard.device()));
        all.narrow(0, self.vocab.start, shard.size()[0]).copy_(shard);
        self.group.all_reduce(&all)?; // the others add zeros
        Ok(all)
    }

    /// The row of each token id in this rank's shard, and whether the id is outside it (the row is
    /// then 0): both of the shape of `ids`.
    pub fn shard_ids(&self, ids: &Tensor) -> (Tensor, Tensor) {
        let Range { start, end } = self.vocab;
        let outside = ids.lt(start).logical_or(&ids.ge(end));
        ((ids - start).masked_fill(&outside, 0), outside)
    }

    /// Starts to sum `partial`, of any shape, over the ranks, in place; without overlap, waits for it too.
    pub fn start_sum(&self, partial: &Tensor) -> Result<Work<()>> {
        Ok(match self.sync {
            TpSync::Overlapped => self.group.all_reduce_async(partial),
            TpSync::Blocking => Work::done(self.group.all_reduce(partial)?),
        })
    }
}
