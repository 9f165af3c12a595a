//! Sequence parallelism (Korthikanti et al., 2022): between the matrices, each tp rank holds its own
//! tokens.

use anyhow::Result;
use comm::Group;
use tch::Tensor;

/// f of sequence parallelism, before a column-parallel matrix. `x`: this rank's tokens,
/// `[batch, seq/tp, hidden]`; returns all of them, `[batch, seq, hidden]`, in the order of the ranks.
/// In the backward pass each rank has a gradient of all tokens: the gradient of `x` is the sum of
/// theirs over the ranks, of this rank's tokens.
pub fn gather(group: &Group, x: &Tensor) -> Result<Tensor> {
    let _ = (group, x);
    todo!("see the exercise of step 3")
}

/// g of sequence parallelism, behind a row-parallel matrix. `partial`: this rank's partial sum of all
/// tokens, `[batch, seq, hidden]`; returns the sum over the ranks of this rank's tokens,
/// `[batch, seq/tp, hidden]`. The gradient of `partial` is that of all tokens.
///
/// # Errors
/// If the ranks do not divide the sequence; the sentence says both numbers.
pub fn reduce_scatter(group: &Group, partial: &Tensor) -> Result<Tensor> {
    let _ = (group, partial);
    todo!("see the exercise of step 3")
}
