//! What tch leaves out of libtorch's autograd: backward functions written in Rust ([`custom`]), a
//! call when a gradient is ready ([`on_grad_ready`]), fused kernels, and what a thread's tensors
//! take of the memory ([`record_memory`]).
//!
//! On top of them, the operations of a transformer that take more than one line where they must be
//! fast, each with its formula and its source: linear layers and SwiGLU ([`Stacked`]), attention
//! ([`causal_attention`]), rotary position embeddings ([`Rotation`]), head and loss in one
//! ([`linear_cross_entropy`]), the optimiser's update ([`fused_adamw`]). And what keeps less of a
//! forward pass ([`recompute`], [`Input`]).

#![warn(missing_docs)]

mod blocks;
mod cross_entropy;
mod ffi;
mod input;
mod kernels;
mod linear;
mod memory;
mod recompute;
mod rotary;

pub use blocks::{attention_block, attention_block_backward, products};
pub use cross_entropy::{chunk_len, linear_cross_entropy};
pub use input::{Finish, Input, done};
pub use kernels::{
    AdamW, add_product, causal_attention, fused_adamw, linear, linear_by_feature, norms, product,
    scale, swiglu,
};
pub use linear::Stacked;
pub use memory::{Change, Recording, observe_memory, peak, record_memory};
pub use recompute::{Module, recompute};
pub use rotary::Rotation;

use anyhow::{Result, bail, ensure};
use ffi::{Backward, GradHook, check, pointers};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex};
use tch::Tensor;

/// Puts a backward function of your own behind `output`.
///
/// `output` is what the forward pass computed from `inputs`, without history (inside
/// [`tch::no_grad`]). The result holds the same numbers; when a loss is differentiated,
/// `backward` receives the gradient of the output and returns one gradient for each input, in
/// their order, each of its input's shape. It runs on the thread that called `backward()` (on
/// CPU), without recording history, once for each backward pass that reaches it.
///
/// What `backward` captures is freed after the backward pass. It may capture the inputs and the
/// bare `output`, but not the tensor that `custom` returns: that one owns the closure, and would
/// never be freed.
///
/// An error or a panic inside `backward` ends the backward pass with its message.
pub fn custom<const N: usize>(
    inputs: [&Tensor; N],
    output: &Tensor,
    backward: impl Fn(&Tensor) -> Result<[Tensor; N]> + Send + 'static,
) -> Result<Tensor> {
    custom_with(inputs, &[], output, backward)
}

/// The same for a function that also depends on `weights`, whose gradients `backward` does not
/// return but adds by itself. Their hooks run as usual.
fn custom_with<const N: usize>(
    inputs: [&Tensor; N],
    weights: &[Tensor],
    output: &Tensor,
    backward: impl Fn(&Tensor) -> Result<[Tensor; N]> + Send + 'static,
) -> Result<Tensor> {
    let closure: Backward = Box::new(move |grad| backward(grad).map(Vec::from));
    let mut result = null_mut();
    let inputs = pointers(inputs.into_iter().chain(weights));
    // SAFETY: all pointers are to live tensors; the shim takes ownership of the closure, also
    // when it fails.
    unsafe {
        check(ffi::ferrotron_custom(
            inputs.as_ptr(),
            inputs.len(),
            output.as_ptr(),
            Box::into_raw(Box::new(closure)).cast(),
            &mut result,
        ))
    }?;
    // SAFETY: without an error the shim has stored a new tensor, which is ours.
    Ok(unsafe { Tensor::from_ptr(result) })
}

/// A hook on a parameter's gradient; dropping it removes the hook.
#[must_use = "dropping the handle removes the hook"]
pub struct Hook {
    param: Tensor,
}

/// Calls `hook` whenever a backward pass has finished adding to `param.grad()`: once a pass,
/// however often the parameter is used.
///
/// # Errors
/// If `param` is not a leaf that requires a gradient, or has a hook already: a parameter can have
/// one.
///
/// An error or a panic inside the hook ends the backward pass with its message.
pub fn on_grad_ready(
    param: &Tensor,
    hook: impl FnMut() -> Result<()> + Send + 'static,
) -> Result<Hook> {
    ensure!(
        param.requires_grad() && param.is_leaf(),
        "a gradient hook needs a leaf tensor that requires a gradient"
    );
    let closure: GradHook = Arc::new(Mutex::new(hook));
    // SAFETY: the tensor is alive; the shim owns the closure until the hook is removed or the
    // tensor dies, or drops it at once where it fails.
    unsafe {
        check(ffi::ferrotron_set_hook(param.as_ptr(), Box::into_raw(Box::new(closure)).cast()))
    }?;
    Ok(Hook { param: param.shallow_clone() })
}

impl Drop for Hook {
    fn drop(&mut self) {
        // SAFETY: the tensor is alive, and a null closure removes the hook. Removing cannot fail.
        let _ = unsafe { check(ffi::ferrotron_set_hook(self.param.as_ptr(), null_mut())) };
    }
}

/// Makes `grad` the tensor that backward passes add to (`param.grad = grad`), for instance a view
/// into a communication bucket. Shape, dtype and device must be the parameter's.
pub fn set_grad(param: &Tensor, grad: &Tensor) -> Result<()> {
    if param.size() != grad.size() || param.kind() != grad.kind() || param.device() != grad.device()
    {
        bail!("a gradient must have its parameter's shape, dtype and device: {param:?}, {grad:?}");
    }
    // SAFETY: both tensors are alive; the parameter takes a reference of its own.
    unsafe { check(ffi::ferrotron_set_grad(param.as_ptr(), grad.as_ptr())) }
}

/// Removes the gradient (`param.grad = None`): the next backward pass stores its result instead of
/// adding it to zeros.
pub fn clear_grad(param: &Tensor) -> Result<()> {
    // SAFETY: the tensor is alive; an undefined tensor is how libtorch spells None.
    unsafe { check(ffi::ferrotron_set_grad(param.as_ptr(), Tensor::new().as_ptr())) }
}

/// Differentiates the scalar `loss`, adding to the `.grad` of every leaf that it depends on.
///
/// # Errors
/// What an operation, a custom backward function or a hook says, in its own words.
pub fn backward(loss: &Tensor) -> Result<()> {
    backward_with(loss, &Tensor::new()) // without a gradient, libtorch starts from 1
}

/// As [`backward`], from an `output` of any shape with a given gradient `grad`.
pub fn backward_with(output: &Tensor, grad: &Tensor) -> Result<()> {
    // SAFETY: both tensors are alive.
    unsafe { check(ffi::ferrotron_backward_with(output.as_ptr(), grad.as_ptr())) }
}
