//! The vocabulary in shards: each rank has the rows of some tokens, in embedding and head.

use anyhow::Result;
use checkpoint::shard_range;
use comm::{Group, ReduceOp};
use std::ops::Range;
use tch::{Kind, Tensor};

/// A rank's share of the vocabulary.
pub struct VocabParallel {
    group: Group,
    /// Of the whole vocabulary.
    pub size: i64,
    /// The token ids whose rows are this rank's. If the vocabulary does not divide evenly, some
    /// ranks hold one row more; Megatron pads it instead.
    ids: Range<i64>,
}

impl VocabParallel {
    /// `size`: of the whole vocabulary; `group`: the ranks that share it.
    pub fn new(size: i64, group: &Group) -> Self {
        let ids = shard_range(size, group.rank(), group.size());
        Self { group: group.clone(), size, ids }
    }

    /// Rows of `weight`, `[vocab/tp, hidden]`, for the tokens in this rank's shard, and zeros for
    /// the others: a partial sum of the embedding. `tokens`: `[batch, seq]`; returns
    /// `[batch, seq, hidden]`.
    pub fn embedding(&self, tokens: &Tensor, weight: &Tensor) -> Tensor {
        let (rows, outside) = self.rows_of(tokens);
        let found = Tensor::embedding(weight, &rows, -1, false, false); // [batch, seq, hidden]
        found.masked_fill(&outside.unsqueeze(-1), 0.0)
    }

    /// Sum over all tokens of −log softmax(x·Wᵀ)\[target\]. `x`: `[batch, seq, hidden]`, `weight`:
    /// this rank's rows of W, `[vocab/tp, hidden]`, `targets`: `[batch, seq]`, i64.
    ///
    /// Each rank computes the logits of its own rows, and never sees those of other ranks: the
    /// softmax needs only their maximum and the sum of their exponentials. The gradient of `x` is a
    /// partial sum. Otherwise this works like [`autograd::linear_cross_entropy`], on one chunk of
    /// the tokens at a time.
    pub fn cross_entropy_sum(
        &self,
        x: &Tensor,
        weight: &Tensor,
        targets: &Tensor,
    ) -> Result<Tensor> {
        let (loss, grad_x, grad_weight) = tch::no_grad(|| self.loss_and_grads(x, weight, targets))?;
        autograd::custom([x, weight], &loss, move |grad| {
            // In place, since it runs once: the gradient of the head is large.
            Ok([&grad_x * grad, grad_weight.shallow_clone().f_mul_(grad)?])
        })
    }

    /// The sum, and the gradients of `x` and `weight`, in their shapes. During evaluation the
    /// gradients are not computed: what they hold means nothing.
    fn loss_and_grads(
        &self,
        x: &Tensor,
        weight: &Tensor,
        targets: &Tensor,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let is_evaluation = !x.requires_grad();
        let acc_kind = if x.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let mut loss = Tensor::zeros([], (acc_kind, x.device()));
        let grad_x = Tensor::empty(x.size(), (x.kind(), x.device())); // contiguous: its chunks are views
        let grad_weight = weight.zeros_like();
        let weight = weight.to_kind(x.kind()); // [vocab/tp, hidden]
        let chunks = |t: &Tensor| t.flatten(0, 1).split(autograd::chunk_len(x.device()), 0);
        for ((x, targets), mut grad_x) in chunks(x).iter().zip(chunks(targets)).zip(chunks(&grad_x))
        {
            let (targets, outside) = self.rows_of(&targets.unsqueeze(1)); // [chunk, 1]
            let mut logits = autograd::product(x, &weight.tr(), acc_kind)?; // [chunk, vocab/tp]
            let max = logits.amax(1, true); // [chunk, 1]
            self.group.all_reduce_op(&max, ReduceOp::Max)?;
            logits -= max; // so that no exponential overflows
            let target = logits.gather(1, &targets, false).masked_fill(&outside, 0.0); // [chunk, 1]
            let mut softmax = logits.exp_(); // [chunk, vocab/tp]
            let sum = softmax.sum_dim_intlist(1, true, None); // [chunk, 1]
            let sums = Tensor::cat(&[sum, target], 1); // [chunk, 2]
            self.group.all_reduce(&sums)?; // the target's logit comes from the rank that has it
            let (sum, target) = (sums.narrow(1, 0, 1), sums.narrow(1, 1, 1)); // [chunk, 1]
            loss += (sum.log() - target).sum(None);
            if is_evaluation {
                continue;
            }

            // The gradient of the logits: softmax, minus one at the target.
            softmax /= sum;
            let minus_one = outside.to_kind(acc_kind) - 1.0; // [chunk, 1]; 0 where another rank has it
            let grad = softmax.scatter_add_(1, &targets, &minus_one).to_kind(x.kind());
            grad_x.copy_(&grad.matmul(&weight)); // [chunk, hidden], a partial sum
            autograd::add_product(&grad_weight, &grad.tr(), x)?; // [vocab/tp, hidden]
        }
        Ok((loss, grad_x, grad_weight))
    }

    /// Whole logits from the ranks' shards: `[vocab/tp]` each to `[vocab]`.
    pub fn gather(&self, shard: &Tensor) -> Result<Tensor> {
        let logits = Tensor::zeros([self.size], (shard.kind(), shard.device()));
        logits.narrow(0, self.ids.start, shard.size()[0]).copy_(shard);
        self.group.all_reduce(&logits)?; // the others add zeros
        Ok(logits)
    }

    /// The row of each token id in this rank's shard, and whether the id is outside it (the row is
    /// then 0): both of the shape of `ids`.
    fn rows_of(&self, ids: &Tensor) -> (Tensor, Tensor) {
        let Range { start, end } = self.ids;
        let outside = ids.lt(start).logical_or(&ids.ge(end));
        ((ids - start).masked_fill(&outside, 0), outside)
    }
}
