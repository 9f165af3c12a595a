//! The rotation of a rotary position embedding (Su et al., *RoFormer*, 2021), in the half-split
//! form of Hugging Face.

use crate::custom;
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Turns pairs of numbers by given angles: dimension i of a head is paired with dimension
/// i + head_dim/2, and (a, b) becomes (a·cos − b·sin, b·cos + a·sin).
///
/// A rotation keeps lengths and angles, so its gradient is the gradient turned back. Written so,
/// the backward pass reads and writes each number once; autograd would cut the halves, negate and
/// join them in passes over memory of their own.
pub struct Rotation {
    cos: Tensor,  // [positions, 1, head_dim]
    sin: Tensor,  // [positions, 1, head_dim], with a minus in the first half
    back: Tensor, // −sin, for the backward pass
}

impl Rotation {
    /// By these angles in radians, `[positions, head_dim/2]`, for tensors of this dtype on this
    /// device. Cosine and sine are computed in the dtype of `angles`, which should be f64: at
    /// position 100,000 an f32 angle is wrong in its third decimal.
    pub fn new(angles: &Tensor, kind: Kind, device: Device) -> Self {
        let (cos, sin, minus_sin) = (angles.cos(), angles.sin(), angles.sin().neg());
        let table = |first: &Tensor, second: &Tensor| {
            let table = Tensor::cat(&[first, second], 1).unsqueeze(1); // [positions, 1, head_dim]
            table.to_kind(kind).to_device(device)
        };
        let (back, sin) = (table(&sin, &minus_sin), table(&minus_sin, &sin));
        Self { cos: table(&cos, &cos), sin, back }
    }

    /// The rotation of the first `n` positions.
    pub fn first(&self, n: i64) -> Self {
        let [cos, sin, back] = [&self.cos, &self.sin, &self.back].map(|t| t.narrow(0, 0, n));
        Self { cos, sin, back } // [n, 1, head_dim]
    }

    /// Turns every head of `x`, `[batch, positions, heads, head_dim]`; returns the same shape.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let rotated = tch::no_grad(|| rotate(x, &self.cos, &self.sin));
        let (cos, back) = (self.cos.shallow_clone(), self.back.shallow_clone());
        custom([x], &rotated, move |grad| Ok([rotate(grad, &cos, &back)]))
    }
}

impl Clone for Rotation {
    /// The same tables, not copies of them.
    fn clone(&self) -> Self {
        let [cos, sin, back] = [&self.cos, &self.sin, &self.back].map(Tensor::shallow_clone);
        Self { cos, sin, back }
    }
}

/// The halves a and b of each head become a·cos − b·sin and b·cos + a·sin; the minus
/// is in the table.
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let rotated = x * cos;
    let halves = |t: &Tensor| -> [Tensor; 2] { t.chunk(2, -1).try_into().expect("cut in two") };
    let ([a, b], [minus_sin, sin]) = (halves(x), halves(sin));
    let [mut first, mut second] = halves(&rotated);
    let _ = first.addcmul_(&b, &minus_sin);
    let _ = second.addcmul_(&a, &sin);
    rotated
}
