//! Head and loss in one: the cross-entropy of x·Wᵀ, a chunk of the tokens at a time.
//!
//! Logits are the largest tensor of a training step: a number for each token and each entry of
//! the vocabulary. Computed chunk by chunk, each with its gradient, they never exist whole, and a
//! chunk stays in the cache (Hsu et al., *Liger Kernel*, 2024: fused linear cross-entropy).

use crate::{add_product, custom, product};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Tokens whose logits exist at one time: few enough for a CPU's cache, enough to fill a GPU.
pub fn chunk_len(device: Device) -> i64 {
    if device == Device::Cpu { 512 } else { 2048 }
}

/// Sum over all tokens of −log softmax(x·Wᵀ)\[target\], a number in f32, or f64 for f64. `x`:
/// `[batch, seq, hidden]`, `weight`: `[vocab, hidden]`, `targets`: `[batch, seq]`, i64.
///
/// For one token with logits z and target t the loss is log Σ eᶻ − zₜ. Its gradient by z
/// is softmax(z), minus one at t. Where `x` requires no gradient, as in an evaluation,
/// none is computed.
pub fn linear_cross_entropy(x: &Tensor, weight: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (loss, grad_x, grad_weight) = tch::no_grad(|| loss_and_grads(x, weight, targets))?;
    custom([x, weight], &loss, move |grad| {
        // In place, since it runs once: the gradient of the head is large.
        Ok([&grad_x * grad, grad_weight.shallow_clone().f_mul_(grad)?])
    })
}

/// The sum, and the gradients of `x` and `weight`, in their shapes.
fn loss_and_grads(
    x: &Tensor,
    weight: &Tensor,
    targets: &Tensor,
) -> Result<(Tensor, Tensor, Tensor)> {
    let is_evaluation = !x.requires_grad();
    let acc_kind = if x.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    let mut loss = Tensor::zeros([], (acc_kind, x.device()));
    let grad_x = Tensor::empty(x.size(), (x.kind(), x.device())); // contiguous: its chunks are views
    let grad_weight = weight.zeros_like();
    let weight = weight.to_kind(x.kind()); // [vocab, hidden]
    let chunks = |t: &Tensor| t.flatten(0, 1).split(chunk_len(x.device()), 0);
    for ((x, targets), mut grad_x) in chunks(x).iter().zip(chunks(targets)).zip(chunks(&grad_x)) {
        let targets = targets.unsqueeze(1); // [chunk, 1]
        let mut logits = product(x, &weight.tr(), acc_kind)?; // [chunk, vocab]
        logits -= logits.amax(1, true); // so that no exponential overflows
        let target = logits.gather(1, &targets, false); // [chunk, 1]
        let mut softmax = logits.exp_(); // [chunk, vocab]
        let sum = softmax.sum_dim_intlist(1, true, None); // [chunk, 1]
        loss += (sum.log() - target).sum(None);
        if is_evaluation {
            continue;
        }
        softmax /= sum;
        let minus_one = Tensor::full_like(&targets, -1).to_kind(acc_kind); // [chunk, 1]
        let grad = softmax.scatter_add_(1, &targets, &minus_one).to_kind(x.kind());
        grad_x.copy_(&grad.matmul(&weight)); // [chunk, hidden]
        add_product(&grad_weight, &grad.tr(), x)?; // [vocab, hidden]
    }
    Ok((loss, grad_x, grad_weight))
}
