//! Attention to one block of keys at a time, for rings, and what is needed to merge the blocks.

use crate::ffi::{self, check};
use std::ptr::null_mut;
use tch::{Device, Kind, Tensor};

/// Attention of some queries to some keys, and what it takes to merge it with attention to others:
/// the logarithm of each softmax's denominator, log Σ exp(q·k/√head_dim). `q`:
/// `[batch, heads, n, head_dim]`; `k`, `v`: `[batch, kv_heads, m, head_dim]`, `kv_heads` a divisor
/// of `heads`. Returns `[batch, heads, n, head_dim]`, and `[batch, heads, n]` in f32, or f64 for
/// f64. `causal`: n is m, and query i sees keys up to i. Records no history.
///
/// On a GPU the fused kernel takes bf16 and f16 alone; other dtypes, for tests, are computed by
/// [`products`], which stores the matrix of the block's scores.
pub fn attention_block(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> (Tensor, Tensor) {
    let none = None::<&Tensor>;
    match kernel(q) {
        Kernel::Cpu => Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, causal, none, None,
        ),
        Kernel::Flash => flash(q, k, v, causal),
        Kernel::Products => tch::no_grad(|| products::forward(q, k, v, causal)),
    }
}

/// The gradients of `q`, `k` and `v` that come from one block, given the output of *all* the blocks
/// that the queries attend to, its log-sum-exp and its gradient: with them the kernel recomputes
/// this block's share of the softmax. Shapes as for [`attention_block`].
pub fn attention_block_backward(
    grad: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    out: &Tensor,
    lse: &Tensor,
    causal: bool,
) -> [Tensor; 3] {
    let none = None::<&Tensor>;
    match kernel(q) {
        Kernel::Cpu => {
            let (q, k, v) = Tensor::internal_scaled_dot_product_flash_attention_for_cpu_backward(
                grad, q, k, v, out, lse, 0.0, causal, none, None,
            );
            [q, k, v]
        }
        Kernel::Flash => flash_backward([grad, q, k, v, out, lse], causal),
        Kernel::Products => tch::no_grad(|| products::backward([grad, q, k, v, out, lse], causal)),
    }
}

enum Kernel {
    Cpu,
    Flash,
    Products,
}

fn kernel(q: &Tensor) -> Kernel {
    let head_dim = q.size().last().copied().unwrap_or(0);
    match (q.device(), q.kind()) {
        (Device::Cpu, _) => Kernel::Cpu,
        (_, Kind::BFloat16 | Kind::Half) if head_dim % 8 == 0 && head_dim <= 256 => Kernel::Flash,
        _ => Kernel::Products,
    }
}

/// FlashAttention on CUDA. Panics with libtorch's message if it fails, as tch's operations do.
fn flash(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> (Tensor, Tensor) {
    let (mut out, mut lse) = (null_mut(), null_mut());
    let [q, k, v] = [q, k, v].map(Tensor::as_ptr);
    // SAFETY: three live tensors in; without an error the shim stores two new ones, which are ours.
    unsafe { check(ffi::ferrotron_flash(q, k, v, causal, &mut out, &mut lse)) }
        .expect("flash attention");
    // SAFETY: as said, they are ours.
    unsafe { (Tensor::from_ptr(out), Tensor::from_ptr(lse)) }
}

/// `inputs`: gradient, q, k, v, output, log-sum-exp.
fn flash_backward(inputs: [&Tensor; 6], causal: bool) -> [Tensor; 3] {
    let mut grads = [null_mut(); 3];
    let inputs = inputs.map(Tensor::as_ptr);
    // SAFETY: six live tensors in; without an error the shim stores three new ones, which are ours.
    unsafe { check(ffi::ferrotron_flash_backward(inputs.as_ptr(), causal, grads.as_mut_ptr())) }
        .expect("flash attention, backward");
    // SAFETY: as said, they are ours.
    grads.map(|grad| unsafe { Tensor::from_ptr(grad) })
}

/// The same by plain matrix products, in any dtype and on any device. Public for the tests, which
/// hold the kernels against it: on a CPU nothing else comes here.
#[doc(hidden)]
pub mod products {
    use crate::kernels::repeat_heads;
    use tch::{Kind, Tensor};

    /// As [`attention_block`](super::attention_block).
    pub fn forward(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> (Tensor, Tensor) {
        let scores = scores(q, &repeat_heads(k, q), causal); // [batch, heads, n, m]
        let lse = scores.logsumexp([-1], false); // [batch, heads, n]
        let weights = (scores - lse.unsqueeze(-1)).exp().to_kind(v.kind());
        (weights.matmul(&repeat_heads(v, q)), lse)
    }

    /// As [`attention_block_backward`](super::attention_block_backward); `inputs`: gradient, q, k,
    /// v, output, log-sum-exp.
    pub fn backward(inputs: [&Tensor; 6], causal: bool) -> [Tensor; 3] {
        let [grad, q, k, v, out, lse] = inputs;
        let (kv_heads, scale) = (k.size()[1], scale(q));
        let (k, v) = (repeat_heads(k, q), repeat_heads(v, q));
        let weights = (scores(q, &k, causal) - lse.unsqueeze(-1)).exp(); // [batch, heads, n, m]
        let wide = weights.kind();
        let [grad, q, k, v, out] = [grad, q, &k, &v, out].map(|t| t.to_kind(wide));
        // The softmax's gradient subtracts each row's weighted mean, which is the sum
        // of grad · output.
        let mean = (&grad * out).sum_dim_intlist(-1, true, None); // [batch, heads, n, 1]
        let grad_scores = &weights * (grad.matmul(&v.transpose(2, 3)) - mean) * scale;
        let grad_k = grad_scores.transpose(2, 3).matmul(&q);
        let grad_v = weights.transpose(2, 3).matmul(&grad);
        // The gradients of query heads that share a key/value head are added.
        let add = |t: Tensor| t.unflatten(1, [kv_heads, -1]).sum_dim_intlist(2, false, None);
        let kind = inputs[1].kind();
        [grad_scores.matmul(&k), add(grad_k), add(grad_v)].map(|t| t.to_kind(kind))
    }

    /// Scaled and masked: `[batch, heads, n, m]`, in f32, or f64 for f64.
    fn scores(q: &Tensor, k: &Tensor, causal: bool) -> Tensor {
        let wide = if q.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let scores = q.matmul(&k.transpose(2, 3)).to_kind(wide) * scale(q);
        if !causal {
            return scores;
        }
        let future = scores.ones_like().to_kind(Kind::Bool).triu(1);
        scores.masked_fill(&future, f64::NEG_INFINITY)
    }

    fn scale(q: &Tensor) -> f64 {
        1.0 / (q.size()[3] as f64).sqrt()
    }
}
