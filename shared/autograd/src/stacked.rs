//! Weights in the form in which a matrix product reads them.

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

    /// All of them in `kind`: `[sum of outs, in]`. A backward pass adds its gradient to those of
    /// the weights, in their own dtype.
    pub fn get(&self, kind: Kind) -> Tensor {
        if let [only] = &self.weights[..]
            && only.kind() == kind
        {
            return only.shallow_clone();
        }
        let version = self.weights.iter().map(Tensor::internal_version).sum();
        let mut made = self.made.borrow_mut();
        match &*made {
            Some(Made { version: of, stack }) if *of == version && stack.kind() == kind => {
                stack.shallow_clone()
            }
            _ => {
                *made = None; // free the old one first
                // With history even if none is asked for: the next caller may need it.
                let stack = tch::with_grad(|| {
                    let mut cast: Vec<_> = self.weights.iter().map(|w| w.to_kind(kind)).collect();
                    if cast.len() == 1 { cast.remove(0) } else { Tensor::cat(&cast, 0) }
                });
                made.insert(Made { version, stack }).stack.shallow_clone()
            }
        }
    }
}
