//! Tensor parallelism (Shoeybi et al., *Megatron-LM*, 2019): the ranks of a group read the same
//! tokens, and each holds a part of every matrix.
//!
//! A matrix split by its outputs (column-parallel: Megatron writes x·A, and A's columns are the rows
//! of a Hugging Face weight) turns an `x` that all ranks hold into features of which each rank holds
//! some. One split by its inputs (row-parallel) reads such features, and leaves every rank with a
//! part of a sum. So a column-parallel and a row-parallel matrix in a row cost one sum forward,
//! behind the second, and one backward, before the first.

use anyhow::Result;
use cli::{ParallelConfig, TpSync};
use comm::{Group, Work};
use std::ops::Range;
use tch::Tensor;

#[derive(Clone)]
pub struct TensorParallel {
    pub group: Group,
    sync: TpSync,
}

impl TensorParallel {
    pub fn new(group: &Group, config: &ParallelConfig) -> Self {
        Self { group: group.clone(), sync: config.tp_sync }
    }

    /// The words of the vocabulary whose rows of the embedding and the head are this rank's. Where
    /// the ranks do not divide it, some hold a row more; Megatron would pad it instead.
    pub fn vocab(&self, vocab_size: i64) -> Range<i64> {
        let (rank, ranks) = (self.group.rank() as i64, self.group.size() as i64);
        vocab_size * rank / ranks..vocab_size * (rank + 1) / ranks
    }

    /// x·Wᵀ for a weight split by its outputs. `x`: `[.., in]`, whole; `weight`: `[out/tp, in]`;
    /// returns `[.., out/tp]`, in the layout that `product` makes.
    ///
    /// Backward, each rank knows what *its* outputs say about `x`, and `x` wants to hear all of them:
    /// Megatron's operator f. That sum can travel while the weight's own gradient is computed.
    pub fn column(
        &self,
        x: &Tensor,
        weight: &Tensor,
        product: fn(&Tensor, &Tensor) -> Tensor,
    ) -> Result<Tensor> {
        let w = weight.detach(); // [out/tp, in]
        let out = tch::no_grad(|| product(x, &w)); // [.., out/tp]
        let (tp, flat) = (self.clone(), flat(&x.detach()));
        autograd::custom([x, weight], &out, move |grad| {
            let grad_x = grad.matmul(&w); // [.., in], a part of the sum
            let sum = tp.start_sum(&grad_x)?;
            let grad_weight = self::flat(grad).tr().matmul(&flat); // [out/tp, in]
            sum.wait()?;
            Ok([grad_x, grad_weight])
        })
    }

    /// The sum over the ranks of what each computed a part of. Backward, nothing is to be done: what
    /// is said about a sum is said about each of its terms. (Megatron's operator g.)
    pub fn sum(&self, part: &Tensor) -> Result<Tensor> {
        let sum = part.detach(); // the same storage: nobody needs the part again
        self.group.all_reduce(&sum)?;
        autograd::custom([part], &sum, |grad| Ok([grad.shallow_clone()]))
    }

    /// This rank's part of an embedding: rows of `weight`, `[vocab/tp, hidden]`, for the tokens that
    /// it has in `vocab`, zeros for the others. `tokens`: `[batch, seq]`; returns `[batch, seq,
    /// hidden]`.
    pub fn embedding(&self, tokens: &Tensor, weight: &Tensor, vocab: &Range<i64>) -> Tensor {
        let (rows, elsewhere) = rows(tokens, vocab);
        let found = Tensor::embedding(weight, &rows, -1, false, false); // [batch, seq, hidden]
        found.masked_fill(&elsewhere.unsqueeze(-1), 0.0)
    }

    /// Whole logits from the parts that the ranks hold: `[vocab/tp]` each to `[vocab]`.
    pub fn gather(&self, part: &Tensor, vocab: &Range<i64>, vocab_size: i64) -> Result<Tensor> {
        let all = Tensor::zeros([vocab_size], (part.kind(), part.device()));
        all.narrow(0, vocab.start, vocab.end - vocab.start).copy_(part);
        self.group.all_reduce(&all)?; // the others add zeros
        Ok(all)
    }

    /// Starts the sum of `part` over the ranks, in place; without overlap, it ends here too.
    pub fn start_sum(&self, part: &Tensor) -> Result<Work<()>> {
        Ok(match self.sync {
            TpSync::Overlapped => self.group.all_reduce_async(part),
            TpSync::Blocking => Work::done(self.group.all_reduce(part)?),
        })
    }
}

/// Where tokens stand in a table that holds the rows of `vocab`, and which of them do not (for those
/// the row is 0): both of the shape of `tokens`.
pub fn rows(tokens: &Tensor, vocab: &Range<i64>) -> (Tensor, Tensor) {
    let elsewhere = tokens.lt(vocab.start).logical_or(&tokens.ge(vocab.end));
    ((tokens - vocab.start).masked_fill(&elsewhere, 0), elsewhere)
}

/// `[.., n]` to `[product of all before, n]`.
fn flat(x: &Tensor) -> Tensor {
    x.flatten(0, -2)
}
