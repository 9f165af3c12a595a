//! A forward pass with a weight, for the lesson on recomputation: it tells when it runs, whether
//! with history, and what it keeps.

use anyhow::Result;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// Numbers in f64, between −1 and 1, that differ from seed to seed.
pub fn numbers(seed: i64, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>();
    let at = Tensor::arange(count, (Kind::Double, Device::Cpu)) + 97.0 * seed as f64;
    (at * 0.7).sin().view(shape)
}

pub fn leaf(seed: i64, shape: &[i64]) -> Tensor {
    numbers(seed, shape).set_requires_grad(true)
}

/// Panics on the first number that is not as it should be, to the last bit: nothing is reordered.
#[track_caller]
pub fn check(what: &str, expected: &Tensor, got: &Tensor) {
    assert!(got.defined(), "{what} is missing");
    assert_eq!(got.size(), expected.size(), "{what}: its shape");
    let (expected, got) = (expected.flatten(0, -1), got.flatten(0, -1));
    for i in 0..expected.size()[0] {
        let (expected, got) = (expected.double_value(&[i]), got.double_value(&[i]));
        assert_eq!(
            got,
            expected,
            "{what} is wrong: number {i} is {:.6} times what it should be",
            got / expected
        );
    }
}

/// How often something is alive.
#[derive(Clone, Default)]
pub struct Alive(Arc<AtomicUsize>);

/// One that is.
pub struct Token(Alive);

impl Alive {
    pub fn token(&self) -> Token {
        self.0.fetch_add(1, SeqCst);
        Token(self.clone())
    }

    pub fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, SeqCst);
    }
}

/// The runs of a forward pass, one after the other: whether each recorded history.
#[derive(Clone, Default)]
pub struct Runs(Arc<Mutex<Vec<bool>>>);

impl Runs {
    pub fn add(&self, records: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(records);
    }

    pub fn seen(&self) -> Vec<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A forward pass with a weight: silu(x·W). `runs` hears of each, and where one records history,
/// what it keeps is alive in `kept`.
pub fn block(
    weight: &Tensor,
    runs: &Runs,
    kept: &Alive,
) -> impl Fn(&Tensor) -> Result<Tensor> + Send + use<> {
    let (weight, runs, kept) = (Mutex::new(weight.shallow_clone()), runs.clone(), kept.clone());
    move |x| {
        let product = x.matmul(&weight.lock().unwrap_or_else(PoisonError::into_inner));
        runs.add(product.requires_grad());
        let token = kept.token();
        let out = autograd::custom([&product], &product.detach().copy(), move |grad| {
            let _ = &token;
            Ok([grad.shallow_clone()])
        })?;
        Ok(out.silu())
    }
}

/// The same without anything that is counted.
pub fn plain(weight: &Tensor) -> impl Fn(&Tensor) -> Result<Tensor> + Send + use<> {
    block(weight, &Runs::default(), &Alive::default())
}

/// What comes before a block and stays beside it, as a residual does: silu(x). Both, side by side.
pub fn beside(x: &Tensor, block: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let before = x.silu(); // [4, 3]
    Ok(Tensor::cat(&[block(&before)?, before], 1)) // [4, 8]
}

/// The gradient of what `beside` returns.
pub fn grad() -> Tensor {
    numbers(3, &[4, 8])
}

/// Gradients of `x` and of `weight` where nothing is recomputed.
pub fn without(x: &Tensor, weight: &Tensor) -> [Tensor; 2] {
    let [x, weight] = [x, weight].map(|t| t.detach().copy().set_requires_grad(true));
    let y = beside(&x, plain(&weight)).expect("a product");
    autograd::backward_with(&y, &grad()).expect("a backward pass");
    [x.grad(), weight.grad()]
}
