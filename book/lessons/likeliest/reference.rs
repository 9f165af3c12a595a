//! The likeliest words of a vocabulary that tp ranks share, without gathering its logits.

use anyhow::{Result, ensure};
use comm::{Group, ReduceOp};
use tch::Tensor;

/// The likeliest word of the whole vocabulary for each token, and its logit. `logits`: those of
/// this rank's words, `[.., vocab/tp]`, finite; `first`: the id of the first of them. Returns ids,
/// i64, and logits, both `[..]`, the same on all ranks. Of equal logits the smaller id wins.
///
/// Sends two numbers a token, each in one all-reduce.
pub fn likeliest(group: &Group, logits: &Tensor, first: i64) -> Result<(Tensor, Tensor)> {
    let (own, row) = logits.max_dim(-1, false); // [..]; of equal ones the first
    let best = own.copy();
    group.all_reduce_op(&best, ReduceOp::Max)?;
    // The smallest id is the largest with its sign turned. Who has not the best one has no say.
    let minus_id = -(row + first);
    let minus_id = minus_id.masked_fill(&own.ne_tensor(&best), i64::MIN);
    group.all_reduce_op(&minus_id, ReduceOp::Max)?;
    Ok((-minus_id, best))
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
    let last = logits.dim() - 1;
    let (logits, rows) = logits.sort_stable(true, -1, true);
    let own = k.min(logits.size()[last]);
    // What is in no vocabulary has no id, and is less likely than anything.
    let candidates = |of: &Tensor, filled: f64| -> Result<Tensor> {
        let of = of.narrow(-1, 0, own).pad([0, k - own], "constant", filled);
        Ok(group.all_gather_dim(&of.contiguous(), last)?) // [.., k·tp]
    };
    let logits = candidates(&logits, f64::NEG_INFINITY)?;
    let ids = candidates(&(rows + first), -1.0)?;
    // Equal ones stand in the order of their ids: ranks follow each other, and a rank's words do.
    let (logits, order) = logits.sort_stable(true, -1, true);
    let ids = ids.gather(-1, &order, false);
    let words = ids.ge(0).sum_dim_intlist(-1, false, tch::Kind::Int64).min().int64_value(&[]);
    ensure!(k <= words, "the {k} likeliest words are asked for, and there are only {words}");
    Ok((ids.narrow(-1, 0, k), logits.narrow(-1, 0, k)))
}
