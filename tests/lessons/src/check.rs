//! Comparisons whose messages can be read.

use tch::{Kind, Tensor};

/// For sums of f64 that are added in another order: a part of the largest number. A sum errs by
/// 1.1e-16 of its terms for each of them; a mistake is orders above.
const REORDERED: f64 = 1e-10;

/// What should be there, and who says so.
pub struct Expected<'a> {
    /// Of what it is: "g".
    pub what: &'a str,
    /// Where: "tp rank 1".
    pub place: &'a str,
    /// Where the numbers come from: "step01".
    pub from: &'a str,
}

/// Panics where `got` is not what was expected, with the number that is furthest off.
#[track_caller]
pub fn check(of: &Expected, expected: &Tensor, got: &Tensor) {
    compare(of, expected, got, REORDERED);
}

/// As [`check`], where no sum is reordered: every bit must be the same.
#[track_caller]
pub fn check_bits(of: &Expected, expected: &Tensor, got: &Tensor) {
    compare(of, expected, got, 0.0);
}

#[track_caller]
fn compare(Expected { what, place, from }: &Expected, expected: &Tensor, got: &Tensor, bound: f64) {
    assert!(got.defined(), "{what} is missing on {place}");
    let (ours, theirs) = (got.size(), expected.size());
    assert!(ours == theirs, "{what} has the wrong shape on {place}: {ours:?}, expected {theirs:?}");
    let flat = |t: &Tensor| t.detach().to_kind(Kind::Double).flatten(0, -1);
    let (a, b) = (flat(expected), flat(got));
    if a.numel() == 0 {
        return;
    }
    // A number that is not finite is as far off as can be.
    let difference = (&a - &b).abs().nan_to_num(f64::INFINITY, None, None);
    let most = difference.max().double_value(&[]);
    if most <= bound * a.abs().max().double_value(&[]) {
        return;
    }
    let at = difference.argmax(None, false).int64_value(&[]);
    let (expected, got) = (a.double_value(&[at]), b.double_value(&[at]));
    let at = index(at, &theirs);
    let factor = factor(&a, &b).map_or(String::new(), |f| {
        format!(" (every number is {} times what was expected)", shown(f))
    });
    let [most, expected, got] = [most, expected, got].map(shown);
    panic!(
        "{what} is wrong on {place}: largest difference {most} at {at}, \
         expected {expected} (from {from}), got {got}{factor}"
    );
}

/// As [`check`], for numbers that another program has computed: off by at most this part of the
/// largest.
#[track_caller]
pub fn check_within(of: &Expected, bound: f64, expected: &Tensor, got: &Tensor) {
    compare(of, expected, got, bound);
}

/// A number that a rank reports, such as a loss.
#[track_caller]
pub fn check_number(of: &Expected, expected: f64, got: f64) {
    check_number_within(of, REORDERED, expected, got);
}

/// As [`check_number`], off by at most this part of what was expected.
#[track_caller]
pub fn check_number_within(of: &Expected, bound: f64, expected: f64, got: f64) {
    let Expected { what, place, from } = of;
    let difference = (expected - got).abs();
    if difference <= bound * expected.abs() {
        return;
    }
    let factor = got / expected;
    panic!(
        "{what} is wrong on {place}: expected {expected} (from {from}), got {got}, \
         {factor:.6} times as much"
    );
}

/// How many bytes a rank has sent.
#[track_caller]
pub fn check_bytes(what: &str, place: &str, expected: u64, got: u64) {
    assert!(got == expected, "{what}: {place} sends {got} bytes, expected {expected}");
}

/// Where every number is off by the same factor, that factor: it says more than a place.
fn factor(expected: &Tensor, got: &Tensor) -> Option<f64> {
    let square = expected.dot(expected).double_value(&[]);
    let factor = expected.dot(got).double_value(&[]) / square;
    let rest = (got - expected * factor).abs().max().double_value(&[]);
    let largest = got.abs().max().double_value(&[]);
    (expected.numel() > 1 && factor.is_finite() && rest <= 1e-9 * largest).then_some(factor)
}

/// The place of the `at`-th number of a tensor of this shape: `[3, 5]`.
fn index(mut at: i64, shape: &[i64]) -> String {
    let mut index: Vec<i64> = shape
        .iter()
        .rev()
        .map(|size| {
            let here = at % size;
            at /= size;
            here
        })
        .collect();
    index.reverse();
    format!("{index:?}")
}

fn shown(x: f64) -> String {
    if x == 0.0 || !x.is_finite() || (1e-3..1e6).contains(&x.abs()) {
        let text = format!("{x:.6}");
        return if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        };
    }
    format!("{x:.4e}")
}
