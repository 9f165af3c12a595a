//! Weights in the form in which a matrix product reads them, and their gradients as one writes them.

use crate::kernels::{add_product, linear, linear_by_feature, product};
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

    /// Where the gradients go, for a backward function to keep.
    pub fn grads(&self) -> Grads {
        Grads(self.weights.iter().map(Tensor::shallow_clone).collect())
    }

    /// As [`custom`](crate::custom), for a function of the inputs and of these weights, to whose
    /// gradients `backward` adds by itself ([`Grads::add`]).
    pub fn custom<const N: usize>(
        &self,
        inputs: [&Tensor; N],
        output: &Tensor,
        backward: impl Fn(&Tensor) -> Result<[Tensor; N]> + Send + 'static,
    ) -> Result<Tensor> {
        custom_with(inputs, &self.weights, output, backward)
    }

    /// x·Wᵀ in the dtype of `x`: `[.., in]` to `[.., sum of outs]`, a token's outputs next to each
    /// other.
    pub fn linear(&self, x: &Tensor) -> Result<Tensor> {
        self.multiply(x, linear)
    }

    /// The same in the layout of [`linear_by_feature`].
    pub fn linear_by_feature(&self, x: &Tensor) -> Result<Tensor> {
        self.multiply(x, linear_by_feature)
    }

    fn multiply(&self, x: &Tensor, product: fn(&Tensor, &Tensor) -> Tensor) -> Result<Tensor> {
        let (w, x_in, grads) = (self.get(x.kind()), x.detach(), self.grads());
        let out = tch::no_grad(|| product(&x_in, &w)); // [.., sum of outs]
        self.custom([x], &out, move |grad| {
            grads.add(grad, &x_in)?;
            let by_feature = x_in.stride().last() != Some(&1);
            let backward = if by_feature { linear_by_feature } else { linear };
            Ok([backward(grad, &w.tr())]) // [.., in], in the layout of x
        })
    }
}

/// The gradients of stacked weights.
pub struct Grads(Vec<Tensor>);

impl Grads {
    /// Adds gradᵀ·x to them, each its part, in their own dtype. `grad`: `[.., sum of outs]`, `x`: `[..,
    /// in]`.
    ///
    /// The product itself adds (Megatron-LM's gradient accumulation fusion): its result is not stored,
    /// cast and read once more. A GPU does not round it to bf16 either.
    pub fn add(&self, grad: &Tensor, x: &Tensor) -> Result<()> {
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
