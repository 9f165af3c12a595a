//! What a matrix product reads, how it gets that again for the gradient of its weights, and what
//! becomes of its gradient.

use crate::custom;
use anyhow::Result;
use tch::Tensor;

/// What a product reads, and what becomes of its gradient. A tensor is one: the product keeps it,
/// and its gradient just goes on.
pub struct Input {
    /// Where the gradient goes: the tensor in autograd's graph.
    pub(crate) source: Tensor,
    /// What the product reads, without history.
    pub(crate) value: Tensor,
    pub(crate) again: Option<Again>,
    pub(crate) on_grad: Option<OnGrad>,
}

/// Starts to make the value again.
pub(crate) type Again = Box<dyn Fn() -> Result<Finish> + Send>;
/// Starts to make the gradient of the source from that of the value.
pub(crate) type OnGrad = Box<dyn Fn(Tensor) -> Result<Finish> + Send>;
/// Waits for what was started, and returns it.
pub type Finish = Box<dyn FnOnce() -> Result<Tensor>>;

impl Input {
    /// As `x`, but its gradient is handed to `start` as soon as it is computed. `start` returns
    /// a function that finishes the work and returns the gradient that goes on, in the shape of
    /// `x`. In between, the gradients of the weights are computed, so the two can overlap.
    pub fn with_grad<F: FnOnce() -> Result<Tensor> + 'static>(
        x: &Tensor,
        start: impl Fn(Tensor) -> Result<F> + Send + 'static,
    ) -> Self {
        let start = move |grad| Ok(Box::new(start(grad)?) as Finish);
        Self { on_grad: Some(Box::new(start)), ..x.into() }
    }

    /// As `x`, but the product does not keep it: for the gradient of the weights, `again` computes
    /// the same numbers once more.
    pub fn again(x: &Tensor, again: impl Fn() -> Result<Tensor> + Send + 'static) -> Self {
        Self { again: Some(Box::new(move || done(again()?))), ..x.into() }
    }

    /// What `there` makes of this input, for instance by a message to and from other ranks. `back`
    /// makes the gradient that goes on from the one that the product computes. Both start the work,
    /// and return a function that finishes it and returns the result.
    ///
    /// In the backward pass the product does not wait for them: the value is on its way again while
    /// the gradient of the input is computed, and this gradient while that of the weights is. With
    /// `keep`, the value is kept, and made only once.
    pub fn sent(
        self,
        keep: bool,
        there: impl Fn(Tensor) -> Result<Finish> + Send + 'static,
        back: impl Fn(Tensor) -> Result<Finish> + Send + 'static,
    ) -> Result<Self> {
        let Self { source, value, again, .. } = self;
        let made = tch::no_grad(|| there(value.shallow_clone())?())?;
        let before = again_or_kept(again, value);
        let again: Again = Box::new(move || there(before()?()?));
        let again = (!keep).then_some(again);
        Ok(Self { source, value: made, again, on_grad: Some(Box::new(back)) })
    }

    /// What `there` makes of this input, and `back` of its gradient, as in [`sent`](Self::sent), but
    /// without any overlap: `back` runs when the gradients of the weights are complete.
    pub fn through(
        self,
        keep: bool,
        there: impl Fn(&Tensor) -> Result<Tensor> + Send + 'static,
        back: impl Fn(&Tensor) -> Result<Tensor> + Send + 'static,
    ) -> Result<Self> {
        let Self { source, value, again, .. } = self;
        let made = tch::no_grad(|| there(&value))?;
        let source = custom([&source], &made, move |grad| Ok([back(grad)?]))?;
        let before = again_or_kept(again, value);
        let again: Again = Box::new(move || done(there(&before()?()?)?));
        let again = (!keep).then_some(again);
        Ok(Self { source, value: made, again, on_grad: None })
    }
}

/// What makes a value again. One that nothing makes is kept, and one that something makes is not.
pub(crate) fn again_or_kept(again: Option<Again>, value: Tensor) -> Again {
    again.unwrap_or_else(|| Box::new(move || done(value.shallow_clone())))
}

/// Work that is done already.
pub fn done(tensor: Tensor) -> Result<Finish> {
    Ok(Box::new(|| Ok(tensor)))
}

impl From<&Tensor> for Input {
    fn from(x: &Tensor) -> Self {
        Self { source: x.shallow_clone(), value: x.detach(), again: None, on_grad: None }
    }
}

impl From<Tensor> for Input {
    fn from(x: Tensor) -> Self {
        Self::from(&x)
    }
}
