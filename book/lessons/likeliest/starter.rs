//! The likeliest words of a vocabulary that tp ranks share, without gathering its logits.

use anyhow::Result;
use comm::Group;
use tch::Tensor;

/// The likeliest word of the whole vocabulary for each token, and its logit. `logits`: those of
/// this rank's words, `[.., vocab/tp]`, finite; `first`: the id of the first of them. Returns ids,
/// i64, and logits, both `[..]`, the same on all ranks. Of equal logits the smaller id wins.
///
/// Sends two numbers a token, each in one all-reduce.
pub fn likeliest(group: &Group, logits: &Tensor, first: i64) -> Result<(Tensor, Tensor)> {
    let _ = (group, logits, first);
    todo!("see the exercise of step 3")
}

/// The `k` likeliest words, the likeliest first: ids, i64, and logits, both `[.., k]`, the same on
/// all ranks. Of equal logits the smaller id comes first.
///
/// Sends `k` ids and `k` logits a token to each other rank, also where a rank has fewer than `k`
/// words.
///
/// # Errors
/// If the whole vocabulary has fewer than `k` words; the sentence says both numbers.
pub fn top_k(group: &Group, logits: &Tensor, first: i64, k: i64) -> Result<(Tensor, Tensor)> {
    let _ = (group, logits, first, k);
    todo!("see the exercise of step 3")
}
