//! Linear layers: y = x·Wᵀ. Weights in the form in which a matrix product reads them, and their
//! gradients as one writes them.

use crate::input::{Input, again_or_kept};
use crate::kernels::{add_product, linear, linear_by_feature, product, swiglu};
use crate::{custom_with, set_grad};
use anyhow::Result;
use std::cell::RefCell;
use tch::{Kind, Tensor};

/// The weights of linear layers that read the same input, stacked and in the dtype of the products.
/// That takes a copy, which is made once for all micro-batches between two updates, and shared by
/// those in flight. (`torch.autocast` keeps its casts in the same way.)
pub struct Stacked {
    weights: Vec<Tensor>, // [out, in] each
    made: RefCell<Option<Made>>,
}

struct Made {
    /// How often the weights had been written to, in total.
    version: i64,
    stack: Tensor, // [sum of outs, in]
}

impl Stacked {
    /// `weights`: `[out, in]` each, with any number of outputs. Changes by libtorch's operations
    /// are noticed at any time. Writes that it does not see (a broadcast into them) must come
    /// before the first [`get`](Self::get).
    pub fn new(weights: Vec<Tensor>) -> Self {
        Self { weights, made: RefCell::default() }
    }

    /// All of them in `kind`, without history: `[sum of outs, in]`.
    pub fn get(&self, kind: Kind) -> Tensor {
        if let [only] = &self.weights[..]
            && only.kind() == kind
        {
            return only.detach();
        }
        let version = self.weights.iter().map(Tensor::internal_version).sum();
        let mut made = self.made.borrow_mut();
        match &*made {
            Some(Made { version: of, stack }) if *of == version && stack.kind() == kind => {
                stack.shallow_clone()
            }
            _ => {
                *made = None; // free the old one first
                let mut cast: Vec<_> =
                    self.weights.iter().map(|w| w.detach().to_kind(kind)).collect();
                let stack = if cast.len() == 1 { cast.remove(0) } else { Tensor::cat(&cast, 0) };
                made.insert(Made { version, stack }).stack.shallow_clone()
            }
        }
    }

    /// x·Wᵀ in the dtype of `x`: `[.., in]` to `[.., sum of outs]`, a token's outputs next to each
    /// other. Gradients of the weights are added up in the weights' dtype.
    pub fn linear(&self, x: impl Into<Input>) -> Result<Tensor> {
        self.multiply(x.into(), linear)
    }

    /// SwiGLU (*GLU Variants Improve Transformer*, Shazeer, 2020) of two stacked weights W and V of
    /// equal size: silu(x·Wᵀ) ⊙ x·Vᵀ, where silu(a) = a / (1 + e⁻ᵃ). `[.., in]` to `[.., out]`.
    ///
    /// Both products, and what is made of them, keep an output for all tokens together in memory:
    /// see [`linear_by_feature`].
    pub fn swiglu(&self, x: impl Into<Input>) -> Result<Tensor> {
        swiglu(&self.linear_by_feature(x)?)
    }

    /// As [`linear`](Self::linear), in the layout of [`linear_by_feature`].
    pub fn linear_by_feature(&self, x: impl Into<Input>) -> Result<Tensor> {
        self.multiply(x.into(), linear_by_feature)
    }

    /// y = x·Wᵀ, so the gradient of x is grad·W, and that of W is gradᵀ·x.
    fn multiply(&self, x: Input, product: fn(&Tensor, &Tensor) -> Tensor) -> Result<Tensor> {
        let Input { source, value, again, on_grad } = x;
        let w = self.get(value.kind());
        let out = tch::no_grad(|| product(&value, &w)); // [.., sum of outs]
        let by_feature = value.stride().last() != Some(&1);
        let again = again_or_kept(again, value); // all that the product keeps of x
        let grads = Grads(self.weights.iter().map(Tensor::shallow_clone).collect());
        custom_with([&source], &self.weights, &out, move |grad| {
            let backward = if by_feature { linear_by_feature } else { linear };
            let grad_x = || backward(grad, &w.tr()); // [.., in], in the layout of x
            let x = again()?; // on its way
            let Some(start) = &on_grad else {
                grads.add(grad, &x()?)?; // first: then fewer tensors are there at one time
                return Ok([grad_x()]);
            };
            let finish = start(grad_x())?;
            grads.add(grad, &x()?)?; // meanwhile
            Ok([finish()?])
        })
    }
}

/// The gradients of stacked weights.
struct Grads(Vec<Tensor>);

impl Grads {
    /// Adds gradᵀ·x to them, each its part, in their own dtype. `grad`: `[.., sum of outs]`,
    /// `x`: `[.., in]`.
    ///
    /// The product itself adds (Megatron-LM's gradient accumulation fusion): its result is not
    /// stored, cast and read once more. A GPU does not round it to bf16 either.
    fn add(&self, grad: &Tensor, x: &Tensor) -> Result<()> {
        let (grad, x) = (grad.flatten(0, -2), x.flatten(0, -2)); // [tokens, sum of outs], [tokens, in]
        let mut start = 0;
        for weight in &self.0 {
            let outs = weight.size()[0];
            let grad = grad.narrow(1, start, outs).tr(); // [out, tokens]
            start += outs;
            let sum = weight.grad();
            if sum.defined() {
                add_product(&sum, &grad, &x)?;
            } else {
                set_grad(weight, &product(&grad, &x, weight.kind())?)?; // the first of a step
            }
        }
        Ok(())
    }
}
