//! Kernels of libtorch that tch does not bind, or binds only in parts.

use crate::ffi::{self, check, pointers};
use anyhow::{Result, ensure};
use std::ptr::null_mut;
use tch::{Device, Kind, Tensor};

/// The 2-norm of every tensor: `[tensors.len()]`, in their dtype.
///
/// # Errors
/// If there is no tensor.
pub fn norms(tensors: &[Tensor]) -> Result<Tensor> {
    let mut result = null_mut();
    let list = pointers(tensors);
    // SAFETY: `list` points at live tensors; without an error the shim stores a new tensor, which
    // is ours.
    unsafe { check(ffi::ferrotron_norms(list.as_ptr(), list.len(), &mut result)) }?;
    // SAFETY: as said, it is ours.
    Ok(unsafe { Tensor::from_ptr(result) })
}

/// Multiplies every tensor by the scalar tensor `factor`, in place.
pub fn scale(tensors: &[Tensor], factor: &Tensor) -> Result<()> {
    let list = pointers(tensors);
    // SAFETY: all pointers are to live tensors.
    unsafe { check(ffi::ferrotron_scale(list.as_ptr(), list.len(), factor.as_ptr())) }
}

/// The constants of one AdamW update.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    /// How much of a weight, times `lr`, is taken off.
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
}

/// One update of AdamW (Loshchilov & Hutter, *Decoupled Weight Decay Regularization*) in one fused
/// kernel, as `torch.optim.AdamW(fused=True)` does it. `step` counts from 1. The four lists run in
/// parallel: parameter, gradient, first and second moment, alike in shape and dtype.
pub fn fused_adamw(
    params: &[Tensor],
    grads: &[Tensor],
    exp_avgs: &[Tensor],
    exp_avg_sqs: &[Tensor],
    step: i64,
    options: AdamW,
) -> Result<()> {
    let n = params.len();
    ensure!(
        [grads.len(), exp_avgs.len(), exp_avg_sqs.len()] == [n; 3],
        "AdamW needs one gradient and two moments for each parameter"
    );
    if n == 0 {
        return Ok(());
    }
    let [p, g, m, v] = [params, grads, exp_avgs, exp_avg_sqs].map(pointers);
    let AdamW { lr, betas, weight_decay, eps } = options;
    // SAFETY: four lists of `n` live tensors each; the kernel checks shapes and dtypes itself.
    unsafe {
        check(ffi::ferrotron_adamw(
            p.as_ptr(),
            g.as_ptr(),
            m.as_ptr(),
            v.as_ptr(),
            n,
            step,
            lr,
            betas.0,
            betas.1,
            weight_decay,
            eps,
        ))
    }
}

/// Causal attention, softmax(q·kᵀ/√head_dim)·v, in one fused kernel in the manner of FlashAttention
/// (Dao et al., 2022): no `[seq, seq]` matrix is ever stored. Which one a GPU takes is libtorch's
/// choice (in bf16 on an H100 cuDNN's); only f64 has none there, and the matrix is stored.
///
/// `q`: `[batch, seq, heads, head_dim]`; `k`, `v`: the same with fewer heads where groups of query
/// heads share one (`heads` must be a multiple). Returns the shape of `q`. f64, f32 and bf16.
pub fn causal_attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    // The backward pass needs all three again. If `v` is a view into a product that also holds q
    // and k, copying it lets the product be freed.
    let v = &v.contiguous();
    // The kernels want heads before positions; strides suffice, nothing is copied.
    let [q, k, v] = [q, k, v].map(|t| t.transpose(1, 2)); // [batch, heads, seq, head_dim]
    let none = None::<&Tensor>;
    let out = if q.device() == Device::Cpu {
        // Called by name: on CPU the general entry point would choose a kernel that stores the
        // matrix whenever there are fewer key/value heads than query heads.
        Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
            &q, &k, &v, 0.0, true, none, None,
        )
        .0
    } else {
        // The only f32 kernel that stores no matrix wants a key/value head for each query head.
        let wide = q.kind() == Kind::Float;
        let [k, v] = [k, v].map(|t| if wide { repeat_heads(&t, &q) } else { t });
        Tensor::scaled_dot_product_attention(&q, &k, &v, none, 0.0, true, None, !wide)
    };
    out.transpose(1, 2) // [batch, seq, heads, head_dim]
}

/// Key/value heads as many as query heads, each beside its copies: `[batch, heads, seq, head_dim]`.
pub(crate) fn repeat_heads(kv: &Tensor, q: &Tensor) -> Tensor {
    match q.size()[1] / kv.size()[1] {
        1 => kv.shallow_clone(),
        times => kv.repeat_interleave_self_int(times, 1, None),
    }
}

/// x·Wᵀ, `x`: `[.., in]`, `weight`: `[out, in]`, in the usual layout: a token's outputs
/// next to each other.
pub fn linear(x: &Tensor, weight: &Tensor) -> Tensor {
    x.linear(weight, None::<&Tensor>) // [.., out]
}

/// The same product in the other layout: an output for all tokens next to each other. So half of
/// the outputs is one piece of memory, which a GPU's elementwise kernels read sixteen bytes at a
/// time; half of each row they would read number by number.
pub fn linear_by_feature(x: &Tensor, weight: &Tensor) -> Tensor {
    let mut size = x.size();
    size.pop();
    weight.matmul(&x.flatten(0, -2).tr()).tr().unflatten(0, size) // [.., out]
}

/// a·b, `[m, k]` times `[k, n]`, in `kind`: the dtype of both, or f32 for bf16, to which a GPU does
/// not round in between.
pub fn product(a: &Tensor, b: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(match (a.kind() == kind, a.device()) {
        (true, _) => a.f_matmul(b)?,
        (false, Device::Cpu) => a.f_matmul(b)?.f_to_kind(kind)?,
        (false, _) => a.f_mm_dtype(b, kind)?,
    })
}

/// Adds [`product`]`(a, b)` to `sum`, `[m, n]`, in the dtype of `sum`. It is not stored first,
/// except for bf16 on a CPU.
pub fn add_product(sum: &Tensor, a: &Tensor, b: &Tensor) -> Result<()> {
    let mut sum = sum.shallow_clone();
    let _ = match (a.kind() == sum.kind(), a.device()) {
        (true, _) => sum.f_addmm_(a, b)?,
        (false, Device::Cpu) => sum.f_add_(&a.f_matmul(b)?)?,
        (false, _) => sum.f_addmm_dtype_out(&sum, a, b, sum.kind())?,
    };
    Ok(())
}

/// silu(gate)·up (*GLU Variants Improve Transformer*, Shazeer, 2020), for gate and up side by side
/// in `x`, `[.., 2·n]`; returns `[.., n]`, in the layout of `x`. Backward, both gradients are
/// written directly into the gradient of `x`: autograd itself would concatenate them in another
/// pass over memory.
pub fn swiglu(x: &Tensor) -> Result<Tensor> {
    let both = x.detach();
    let [gate, up] = halves(&both);
    let silu = gate.silu();
    let out = &silu * &up;
    crate::custom([x], &out, move |grad| {
        let grad_x = both.empty_like();
        let [grad_gate, grad_up] = halves(&grad_x);
        let _ = grad.f_mul_out(&grad_up, &silu)?;
        let _ = gate.f_silu_backward_grad_input(&grad_gate, &(grad * &up))?;
        Ok([grad_x])
    })
}

/// Views of the first and the second half of each row.
fn halves(x: &Tensor) -> [Tensor; 2] {
    let n = x.size().last().copied().unwrap_or(0) / 2;
    [x.narrow(-1, 0, n), x.narrow(-1, n, n)]
}
