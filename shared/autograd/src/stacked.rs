//! Weights in the form in which a product reads them.

use std::cell::RefCell;
use tch::{Kind, Tensor};

/// The weights of linear layers that read the same input, one below the other and in the dtype of the
/// products. That takes a copy; it is made once for all micro-batches between two updates, and those in
/// flight share it. (`torch.autocast` keeps its casts in the same way.)
pub struct Stacked {
    weights: Vec<Tensor>, // [out, in] each
    made: RefCell<Option<Made>>,
}

struct Made {
    /// How often the weights had been written to, all together.
    version: i64,
    stack: Tensor, // [sum of outs, in]
}

impl Stacked {
    /// `weights`: `[out, in]` each, with any number of outputs. libtorch's operations may change them at
    /// any time and are noticed. Writes that it does not see (a broadcast into them) must come before
    /// the first [`get`](Self::get).
    pub fn new(weights: Vec<Tensor>) -> Self {
        Self { weights, made: RefCell::default() }
    }

    /// All of them in `kind`: `[sum of outs, in]`. What a backward pass finds out about it goes to the
    /// gradients of the weights, in their own dtype.
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
                *made = None; // not both at one time
                // With history even where none is asked for: the next caller may need it.
                let stack = tch::with_grad(|| {
                    let mut cast: Vec<_> = self.weights.iter().map(|w| w.to_kind(kind)).collect();
                    if cast.len() == 1 { cast.remove(0) } else { Tensor::cat(&cast, 0) }
                });
                made.insert(Made { version, stack }).stack.shallow_clone()
            }
        }
    }
}
