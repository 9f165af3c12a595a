//! Recomputation of activations (Chen et al., *Training Deep Nets with Sublinear Memory Cost*,
//! 2016): what a backward pass needs of a forward pass is computed a second time, and not kept.

use crate::{backward_with, custom};
use anyhow::Result;
use std::sync::{Arc, Mutex, PoisonError};
use tch::Tensor;

/// `forward(x)`, of which nothing is kept but `x`. The backward pass runs `forward` again, this
/// time with history, and differentiates that: the gradient of `x` goes on as usual, and those of
/// the parameters that `forward` uses are added where they always are; their hooks run.
///
/// `forward` must compute the same numbers each time: it draws no random ones, and what it reads
/// does not change until the backward pass. It may send and receive; then all ranks of the group
/// run it again in the same order. It may itself recompute parts of it.
///
/// An `x` that requires no gradient has no backward pass that could run `forward` again: then this
/// is `forward(x)`.
///
/// # Errors
/// Those of `forward`. If it fails the second time, the backward pass ends with its message.
pub fn recompute(
    x: &Tensor,
    forward: impl Fn(&Tensor) -> Result<Tensor> + Send + 'static,
) -> Result<Tensor> {
    if !x.requires_grad() {
        return forward(x);
    }
    let input = x.detach();
    let out = tch::no_grad(|| forward(&input))?;
    custom([x], &out, move |grad| {
        let x = input.detach().set_requires_grad(true); // the start of a graph of its own
        let out = tch::with_grad(|| forward(&x))?;
        backward_with(&out, grad)?;
        Ok([x.grad()])
    })
}

/// A part of a model that a backward pass may run again, on whatever thread it runs.
pub struct Module<T>(Arc<Mutex<T>>);

impl<T: Send + 'static> Module<T> {
    /// From the part itself.
    pub fn new(module: T) -> Self {
        Self(Arc::new(Mutex::new(module)))
    }

    /// `forward(module, x)`. With `again`, nothing is kept of it but `x`: see [`recompute`].
    pub fn run(
        &self,
        x: &Tensor,
        again: bool,
        forward: impl Fn(&T, &Tensor) -> Result<Tensor> + Send + 'static,
    ) -> Result<Tensor> {
        let module = self.0.clone();
        // A run that has panicked ends with the rank's: what it left behind is not used.
        let lock =
            move |x: &Tensor| forward(&module.lock().unwrap_or_else(PoisonError::into_inner), x);
        if again { recompute(x, lock) } else { lock(x) }
    }
}
