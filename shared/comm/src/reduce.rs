//! Dtypes that travel between ranks, and how two buffers of one are combined.

use half::{bf16, f16};
use tch::Kind;

/// How a reduction combines elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceOp {
    /// Their sum.
    Sum,
    /// The largest of them.
    Max,
}

/// Combines incoming bytes into a buffer of the same length, element by element.
pub type Combine = fn(&mut [u8], &[u8]);

/// Dtypes that can be moved. A header names a dtype by its place here, so that all ranks agree.
pub const DTYPES: [(Kind, &str); 10] = [
    (Kind::Double, "f64"),
    (Kind::Float, "f32"),
    (Kind::BFloat16, "bf16"),
    (Kind::Half, "f16"),
    (Kind::Int64, "i64"),
    (Kind::Int, "i32"),
    (Kind::Int16, "i16"),
    (Kind::Int8, "i8"),
    (Kind::Uint8, "u8"),
    (Kind::Bool, "bool"),
];

/// The place of `kind` in [`DTYPES`].
pub fn code(kind: Kind) -> Option<u8> {
    let place = DTYPES.iter().position(|(k, _)| *k == kind)?;
    Some(place as u8)
}

/// The name of the dtype at a place in [`DTYPES`].
pub fn name(code: u8) -> &'static str {
    DTYPES.get(code as usize).map_or("unknown", |(_, name)| name)
}

/// Replaces a buffer by the incoming bytes.
pub fn copy(into: &mut [u8], bytes: &[u8]) {
    into.copy_from_slice(bytes);
}

/// Whether elements of `kind` can be combined; sums of the others would overflow at once
/// or mean nothing.
pub fn reduces(kind: Kind) -> bool {
    combine(kind, ReduceOp::Sum).is_some()
}

/// The hint in the error for any other dtype.
pub const REDUCES: &str = "it adds f64, f32, bf16, f16, i64, i32 and u8";

/// The function that applies `op` to elements of `kind`, or None if that is not defined. Integer
/// sums wrap around; `Max` propagates NaN.
pub fn combine(kind: Kind, op: ReduceOp) -> Option<Combine> {
    // Elements are read from and written to bytes, since a piece from the network may start at any
    // address. The compiler vectorises these loops all the same.
    macro_rules! each {
        ($t:ty, $f:expr) => {
            |into, bytes| {
                let f = $f;
                let (into, _) = into.as_chunks_mut::<{ size_of::<$t>() }>();
                let (bytes, _) = bytes.as_chunks();
                for (a, b) in into.iter_mut().zip(bytes) {
                    *a = f(<$t>::from_ne_bytes(*a), <$t>::from_ne_bytes(*b)).to_ne_bytes();
                }
            }
        };
    }
    macro_rules! float {
        ($t:ty) => {
            match op {
                ReduceOp::Sum => each!($t, |a: $t, b: $t| a + b),
                ReduceOp::Max => each!($t, |a: $t, b: $t| if a > b || a.is_nan() { a } else { b }),
            }
        };
    }
    // Half precision is added in f32 and rounded back once for every rank that is added.
    macro_rules! half {
        ($t:ty) => {
            match op {
                ReduceOp::Sum => each!($t, |a: $t, b: $t| <$t>::from_f32(a.to_f32() + b.to_f32())),
                ReduceOp::Max => each!($t, |a: $t, b: $t| if a > b || a.is_nan() { a } else { b }),
            }
        };
    }
    macro_rules! integer {
        ($t:ty) => {
            match op {
                ReduceOp::Sum => each!($t, |a: $t, b: $t| a.wrapping_add(b)),
                ReduceOp::Max => each!($t, |a: $t, b: $t| a.max(b)),
            }
        };
    }
    let combine: Combine = match kind {
        Kind::Double => float!(f64),
        Kind::Float => float!(f32),
        Kind::BFloat16 => half!(bf16),
        Kind::Half => half!(f16),
        Kind::Int64 => integer!(i64),
        Kind::Int => integer!(i32),
        Kind::Uint8 => integer!(u8),
        _ => return None,
    };
    Some(combine)
}
