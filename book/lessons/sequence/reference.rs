//! Sequence parallelism (Korthikanti et al., 2022): between the matrices, each tp rank holds its own
//! tokens.

use anyhow::{Result, ensure};
use comm::Group;
use tch::Tensor;

/// f of sequence parallelism, before a column-parallel matrix. `x`: this rank's tokens,
/// `[batch, seq/tp, hidden]`; returns all of them, `[batch, seq, hidden]`, in the order of the ranks.
/// In the backward pass each rank has a gradient of all tokens: the gradient of `x` is the sum of
/// theirs over the ranks, of this rank's tokens.
pub fn gather(group: &Group, x: &Tensor) -> Result<Tensor> {
    let whole = all_tokens(group, &x.detach())?;
    let group = group.clone();
    autograd::custom([x], &whole, move |grad| Ok([own_tokens(&group, grad)?]))
}

/// g of sequence parallelism, behind a row-parallel matrix. `partial`: this rank's partial sum of all
/// tokens, `[batch, seq, hidden]`; returns the sum over the ranks of this rank's tokens,
/// `[batch, seq/tp, hidden]`. The gradient of `partial` is that of all tokens.
///
/// # Errors
/// If the ranks do not divide the sequence; the sentence says both numbers.
pub fn reduce_scatter(group: &Group, partial: &Tensor) -> Result<Tensor> {
    let (seq, ranks) = (partial.size()[1], group.size() as i64);
    ensure!(seq % ranks == 0, "{ranks} ranks cannot share {seq} tokens: they must divide them");
    let own = own_tokens(group, &partial.detach())?;
    let group = group.clone();
    autograd::custom([partial], &own, move |grad| Ok([all_tokens(&group, grad)?]))
}

/// The groups cut and join the first dimension, so the tokens go there and back.
fn all_tokens(group: &Group, own: &Tensor) -> Result<Tensor> {
    let first = own.transpose(0, 1).contiguous(); // [seq/tp, batch, hidden]
    Ok(group.all_gather(&first)?.transpose(0, 1).contiguous()) // [batch, seq, hidden]
}

fn own_tokens(group: &Group, all: &Tensor) -> Result<Tensor> {
    let first = all.transpose(0, 1).contiguous(); // [seq, batch, hidden]
    Ok(group.reduce_scatter(&first)?.transpose(0, 1).contiguous()) // [batch, seq/tp, hidden]
}
