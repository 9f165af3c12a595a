//! Context parallelism: each rank holds some positions of every sequence. Only attention looks
//! beyond them: keys and values travel around a ring, and every rank attends to each block as it
//! passes (Liu et al., *Ring Attention with Blockwise Transformers*, 2023).

use anyhow::Result;
use autograd::{attention_block, attention_block_backward};
use comm::{Group, Mesh, Work};
use data::MicroBatch;
use std::ops::Range;
use tch::{Kind, Tensor};

use crate::config::{Config, CpLayout};

/// This rank's place in a ring, and its part of every sequence.
pub struct ContextParallel {
    group: Group,
    layout: CpLayout,
    /// The positions of this rank's tokens, ascending: `[seq/cp]`, i64.
    pub positions: Tensor,
}

/// Which of this rank's queries attend to which keys of a block, as ranges of their rows.
#[derive(Debug, PartialEq)]
pub struct Tile {
    /// Of this rank.
    pub queries: Range<i64>,
    /// Of the block.
    pub keys: Range<i64>,
    /// Whether query i sees only keys 0..=i; otherwise it sees every key.
    pub causal: bool,
}

/// What rank `rank` computes with the block of rank `from`; each rank has `rows` positions.
///
/// Contiguous: the whole block precedes this rank's tokens, or follows them. Zigzag: rank r of c
/// has pieces r and 2c − 1 − r of 2c, so the first piece of an earlier rank precedes both of this
/// rank's, and the second follows both; the pieces of a later rank lie between them.
pub fn tile(layout: CpLayout, rank: usize, from: usize, rows: i64) -> Option<Tile> {
    let (all, first, second) = (0..rows, 0..rows / 2, rows / 2..rows);
    if from == rank {
        return Some(Tile { queries: all.clone(), keys: all, causal: true });
    }
    let (queries, keys) = match (layout, from < rank) {
        (CpLayout::Contiguous, true) => (all.clone(), all),
        (CpLayout::Contiguous, false) => return None,
        (CpLayout::Zigzag, true) => (all, first),
        (CpLayout::Zigzag, false) => (second, all),
    };
    Some(Tile { queries, keys, causal: false })
}

impl ContextParallel {
    /// With the positions that `config` assigns to this rank.
    pub fn new(config: &Config, mesh: &Mesh) -> Self {
        let (group, layout) = (mesh.cp.clone(), config.parallel.cp_layout);
        let (rank, ranks) = (group.rank() as i64, group.size() as i64);
        let seq = config.data.seq_len as i64;
        let piece = |n: i64, of: i64| {
            Tensor::arange_start(
                n * seq / of,
                (n + 1) * seq / of,
                (Kind::Int64, config.run.device()),
            )
        };
        let positions = match layout {
            CpLayout::Contiguous => piece(rank, ranks),
            CpLayout::Zigzag if ranks == 1 => piece(0, 1),
            CpLayout::Zigzag => {
                Tensor::cat(&[piece(rank, 2 * ranks), piece(2 * ranks - 1 - rank, 2 * ranks)], 0)
            }
        };
        Self { group, layout, positions }
    }

    /// This rank's tokens of a micro-batch, and the token after each: `[micro_batch, seq/cp]`.
    pub fn shard(&self, micro_batch: &MicroBatch) -> MicroBatch {
        let MicroBatch { inputs, targets } = micro_batch;
        MicroBatch { inputs: self.shard_tokens(inputs), targets: self.shard_tokens(targets) }
    }

    /// This rank's part of `tokens`: `[batch, seq]` to `[batch, seq/cp]`.
    pub fn shard_tokens(&self, tokens: &Tensor) -> Tensor {
        tokens.index_select(1, &self.positions)
    }

    /// The row of a position on this rank, if it is here.
    pub fn row(&self, position: i64) -> Option<i64> {
        let row = self.positions.eq(position).nonzero(); // [1, 1] or [0, 1]
        (row.numel() == 1).then(|| row.int64_value(&[0, 0]))
    }

    /// Causal self-attention of the whole sequence for this rank's positions. `q`: `[batch, seq/cp,
    /// heads, head_dim]`; `k`, `v`: the same with `kv_heads` heads; returns the shape of `q`.
    pub fn attention(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        if self.group.size() == 1 {
            return Ok(autograd::causal_attention(q, k, v)); // one block, and no ring
        }
        let cp = self.clone();
        // The kernels want heads before positions: [batch, heads, seq/cp, head_dim].
        let [qt, kt, vt] = [q, k, v].map(|t| t.detach().transpose(1, 2));
        let kv = Tensor::stack(&[kt, vt], 0); // [2, batch, kv_heads, seq/cp, head_dim]
        let (out, lse, neighbour) = tch::no_grad(|| cp.forward(&qt, &kv))?;
        autograd::custom([q, k, v], &out.transpose(1, 2), move |grad| {
            let grad = grad.transpose(1, 2); // [batch, heads, seq/cp, head_dim]
            let (grad_q, grad_kv) = cp.backward(&grad, &qt, [&kv, &neighbour], &out, &lse)?;
            Ok([grad_q, grad_kv.get(0), grad_kv.get(1)].map(|t| t.transpose(1, 2)))
        })
    }

    /// `q`: `[batch, heads, seq/cp, head_dim]`; `kv`: `[2, batch, kv_heads, seq/cp, head_dim]`.
    /// Returns the output, of the shape of `q`; its log-sum-exp (the logarithm of each softmax's
    /// denominator), `[batch, heads, seq/cp]`; and the previous rank's `kv`.
    fn forward(&self, q: &Tensor, kv: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let (rank, ranks) = (self.group.rank(), self.group.size());
        // First this rank's own block, while it is sent on; then the others as they arrive.
        let passing = self.pass_on(kv);
        let (own_out, lse) = attention_block(q, &kv.get(0), &kv.get(1), true);
        let out = own_out.to_kind(lse.kind()); // [batch, heads, seq/cp, head_dim]
        let neighbour = passing.wait()?;
        let mut kv = neighbour.shallow_clone();
        for hop in 1..ranks {
            let next = (hop + 1 < ranks).then(|| self.pass_on(&kv)); // travels while this one is attended to
            let from = (rank + ranks - hop) % ranks;
            if let Some(tile) = tile(self.layout, rank, from, q.size()[2]) {
                let [q, out, lse] = [q, &out, &lse].map(|t| positions_of(t, &tile.queries));
                let [k, v] = [0, 1].map(|i| positions_of(&kv.get(i), &tile.keys));
                let (block_out, block_lse) = attention_block(&q, &k, &v, tile.causal);
                merge(&out, &lse, &block_out, &block_lse);
            }
            kv = next.map_or(Ok(kv), Passing::wait)?;
        }
        Ok((out.to_kind(q.kind()), lse, neighbour))
    }

    /// The gradients of `q` and `kv`, from those of the output; all tensors in the
    /// shapes of `forward`.
    ///
    /// Each block of keys and values goes around once more, from the rank that its first hop in the
    /// forward pass reached. Its gradient travels one hop behind it, collects every rank's share,
    /// and ends on the rank that owns the block.
    fn backward(
        &self,
        grad: &Tensor,
        q: &Tensor,
        [own, neighbour]: [&Tensor; 2],
        out: &Tensor,
        lse: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let (rank, ranks) = (self.group.rank(), self.group.size());
        let zeros = |of: &Tensor| {
            Tensor::empty_strided(of.size(), of.stride(), (lse.kind(), of.device())).zero_()
        };
        let (grad_q, mut grad_own) = (zeros(q), zeros(own));
        // Adds the gradients from attending to the block of the rank `hop` places before this one.
        let add = |hop: usize, kv: &Tensor, grad_kv: &Tensor| {
            let from = (rank + ranks - hop) % ranks;
            let Some(tile) = tile(self.layout, rank, from, q.size()[2]) else { return };
            let [grad, q, out, lse] = [grad, q, out, lse].map(|t| positions_of(t, &tile.queries));
            let [k, v] = [0, 1].map(|i| positions_of(&kv.get(i), &tile.keys));
            // `out` and `lse` are those of all blocks together, not of this one.
            let [gq, gk, gv] = attention_block_backward(&grad, &q, &k, &v, &out, &lse, tile.causal);
            let _ = positions_of(&grad_q, &tile.queries).g_add_(&gq);
            let _ = positions_of(&grad_kv.get(0), &tile.keys).g_add_(&gk);
            let _ = positions_of(&grad_kv.get(1), &tile.keys).g_add_(&gv);
        };

        let (mut kv, mut follower) = (neighbour.shallow_clone(), None::<Passing>);
        for hop in 1..ranks {
            let next = (hop + 1 < ranks).then(|| self.pass_on(&kv));
            let mut grad_kv = zeros(&kv);
            add(hop, &kv, &grad_kv);
            if let Some(follower) = follower {
                grad_kv += follower.wait()?; // from the ranks that had this block before
            }
            follower = Some(self.pass_on(&grad_kv)); // after the last hop: home
            kv = next.map_or(Ok(kv), Passing::wait)?;
        }
        add(0, own, &grad_own); // while the last gradients travel home
        if let Some(follower) = follower {
            grad_own += follower.wait()?;
        }
        Ok((grad_q.to_kind(q.kind()), grad_own.to_kind(q.kind())))
    }

    /// Starts to send a tensor to the next rank, and to receive one of the same shape from the
    /// previous rank.
    fn pass_on(&self, tensor: &Tensor) -> Passing {
        let (rank, ranks) = (self.group.rank(), self.group.size());
        let received = tensor.empty_like(); // before the send: to get memory may take an idle GPU
        let sent = self.group.isend(tensor, (rank + 1) % ranks);
        let arrived = self.group.irecv(&received, (rank + ranks - 1) % ranks);
        Passing { sent, arrived }
    }
}

impl Clone for ContextParallel {
    fn clone(&self) -> Self {
        let Self { group, layout, positions } = self;
        Self { group: group.clone(), layout: *layout, positions: positions.shallow_clone() }
    }
}

/// Two tensors on their way: ours to the next rank, and the previous rank's to us.
struct Passing {
    sent: Work<()>,
    arrived: Work<Tensor>,
}

impl Passing {
    fn wait(self) -> Result<Tensor> {
        let received = self.arrived.wait()?;
        self.sent.wait()?;
        Ok(received)
    }
}

/// Merges a block into the softmax over the earlier blocks, in place. Both outputs are weighted
/// averages of values; the block's share in the new one is e^block_lse / (e^block_lse + e^lse) =
/// sigmoid(block_lse − lse).
fn merge(out: &Tensor, lse: &Tensor, block_out: &Tensor, block_lse: &Tensor) {
    let share = (block_lse - lse).sigmoid().unsqueeze(-1); // [batch, heads, rows, 1]
    let _ = out.shallow_clone().lerp_tensor_(&block_out.to_kind(out.kind()), &share);
    lse.shallow_clone().copy_(&lse.logaddexp(block_lse)); // [batch, heads, rows]
}

/// The positions `range` of a tensor: dimension 2.
fn positions_of(tensor: &Tensor, range: &Range<i64>) -> Tensor {
    tensor.narrow(2, range.start, range.end - range.start)
}
