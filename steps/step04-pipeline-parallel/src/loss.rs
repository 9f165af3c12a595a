//! Head and loss in one: cross-entropy of x·Wᵀ, a chunk of the tokens at a time.
//!
//! Each rank computes the logits of its own shard of the vocabulary, and never sees the others': the
//! softmax needs only their maximum and the sum of their exponentials.
//!
//! Logits are the largest tensor of a training step: a number for each token and each entry of
//! the vocabulary. Computed chunk by chunk, each with its gradient, they never exist whole, and a
//! chunk stays in the cache (Hsu et al., *Liger Kernel*, 2024).

use anyhow::Result;
use comm::Op;
use tch::{Device, Kind, Tensor};

use crate::tensor_parallel::TensorParallel;

/// Tokens whose logits exist at one time: few enough for a CPU's cache, enough to fill a GPU.
fn chunk_len(device: Device) -> i64 {
    if device == Device::Cpu { 512 } else { 2048 }
}

/// Sum over all tokens of −log softmax(x·Wᵀ)[target]. `x`: `[batch, seq, hidden]`, `weight`: this
/// rank's rows, `[vocab/tp, hidden]`, `targets`: `[batch, seq]`, i64.
pub fn cross_entropy_sum(
    x: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    tp: &TensorParallel,
) -> Result<Tensor> {
    let (loss, grad_x, grad_weight) = tch::no_grad(|| loss_and_grads(x, weight, targets, tp))?;
    autograd::custom([x, weight], &loss, move |grad| {
        // In place, since it runs once: the gradient of the head is large.
        Ok([&grad_x * grad, grad_weight.shallow_clone().f_mul_(grad)?])
    })
}

/// The sum, and the gradients of `x` and `weight`, in their shapes.
fn loss_and_grads(
    x: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
    tp: &TensorParallel,
) -> Result<(Tensor, Tensor, Tensor)> {
    let acc_kind = if x.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let mut loss = Tensor::zeros([], (acc_kind, x.device()));
    let grad_x = Tensor::empty(x.size(), (x.kind(), x.device())); // contiguous: its chunks are views
    let grad_weight = weight.zeros_like();
    let weight = weight.to_kind(x.kind()); // [vocab/tp, hidden]
    let chunks = |t: &Tensor| t.flatten(0, 1).split(chunk_len(x.device()), 0);
    for ((x, targets), mut grad_x) in chunks(x).iter().zip(chunks(targets)).zip(chunks(&grad_x)) {
        let (targets, outside) = tp.shard_ids(&targets.unsqueeze(1)); // [chunk, 1]
        let mut logits = autograd::product(x, &weight.tr(), acc_kind)?; // [chunk, vocab/tp]
        let max = logits.amax(1, true); // [chunk, 1]
        tp.group.all_reduce_op(&max, Op::Max)?;
        logits -= max; // so that no exponential overflows
        let target = logits.gather(1, &targets, false).masked_fill(&outside, 0.0); // [chunk, 1]
        let mut softmax = logits.exp_(); // [chunk, vocab/tp]
        let sum = softmax.sum_dim_intlist(1, true, None); // [chunk, 1]
        let sums = Tensor::cat(&[sum, target], 1); // [chunk, 2]
        tp.group.all_reduce(&sums)?; // the target's logit comes from the rank that has it
        let (sum, target) = (sums.narrow(1, 0, 1), sums.narrow(1, 1, 1)); // [chunk, 1]
        loss += (sum.log() - target).sum(None);

        // The gradient of the logits: softmax, minus one at the target.
        softmax /= sum;
        let minus_one = outside.to_kind(acc_kind) - 1.0; // [chunk, 1]; 0 where another rank has it
        let grad = softmax.scatter_add_(1, &targets, &minus_one).to_kind(x.kind());
        grad_x.copy_(&grad.matmul(&weight)); // [chunk, hidden], a partial sum
        let pending = tp.start_sum(&grad_x)?;
        autograd::add_product(&grad_weight, &grad.tr(), x)?; // [vocab/tp, hidden]
        pending.wait()?;
    }
    Ok((loss, grad_x, grad_weight))
}
