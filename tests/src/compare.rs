//! How far two runs are apart.

use crate::record::{EXACT, Tensors};
use tch::Tensor;

/// How far two runs may be apart.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// Not at all: no sum was reordered.
    Bits,
    /// By this fraction of a tensor's largest entry.
    Relative(f64),
}

impl Bound {
    /// For f64 runs whose sums are reordered and nothing else.
    ///
    /// A sum errs by its length times 1.1e-16 of its terms, and even thousands of sums in a row
    /// leave 1e-13 of a loss or of the first gradients. What magnifies that is AdamW: its first
    /// update is lr·g/(|g| + ε), whose slope is up to lr/ε, here 1e-2/1e-8 = 1e6, where |g| is no
    /// larger than ε. A gradient whose terms are 0.1 may be so small, and is rounded at 1e-17: that
    /// moves its weight by 1e-11, a 1e-10th of the largest weights, which are 0.1. One weight of
    /// thousands moves later losses and gradients by far less.
    ///
    /// The worst that the suite has seen: 2.6e-11 of a weight after the first update, 4.0e-12 of a
    /// gradient after that. A real mistake is orders above.
    pub const REORDERED: Self = Self::Relative(1e-10);
}

/// Compares every number of `run` with `reference` and panics on those that are too far off, the
/// worst first; returns the largest relative error.
#[track_caller]
pub fn compare(what: &str, reference: &Tensors, run: &Tensors, bound: Bound) -> f64 {
    let names = |tensors: &Tensors| tensors.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(reference), names(run), "{what}: not the same tensors");
    let mut errors: Vec<(f64, &String)> =
        reference.iter().map(|(name, tensor)| (error(tensor, &run[name]), name)).collect();
    errors.sort_by(|a, b| b.0.total_cmp(&a.0));
    let allowed = match bound {
        Bound::Bits => 0.0,
        Bound::Relative(fraction) => fraction,
    };
    let broken: Vec<_> = errors.iter().filter(|(error, _)| *error > allowed).collect();
    let list: Vec<String> =
        broken.iter().take(8).map(|(error, name)| format!("\n  {error:9.2e}  {name}")).collect();
    assert!(
        broken.is_empty(),
        "{what}: {} of {} tensors are off by more than {bound:?}:{}",
        broken.len(),
        errors.len(),
        list.concat()
    );
    errors.first().map_or(0.0, |(error, _)| *error)
}

/// max|a − b| / max|a|; infinite for another shape or dtype, or where a number is not finite.
fn error(a: &Tensor, b: &Tensor) -> f64 {
    if a.size() != b.size() || a.kind() != b.kind() {
        return f64::INFINITY;
    }
    let (a, b) = (a.to_kind(EXACT), b.to_kind(EXACT));
    let largest = |t: &Tensor| t.abs().max().double_value(&[]);
    let (difference, scale) = (largest(&(&a - &b)), largest(&a));
    match (difference, scale) {
        (0.0, _) => 0.0,
        // A NaN is as far off as can be.
        (d, s) if !d.is_finite() || !s.is_finite() || s == 0.0 => f64::INFINITY,
        (d, s) => d / s,
    }
}
