//! What each rank of a run will hold, counted from the settings alone.

use checkpoint::shard_range;
use cli::Dtype;
use comm::Coords;
use report::Pass;
use std::ops::Range;

use crate::run::{Recompute, Run};
use crate::schedule::in_flight;

/// What a plan has to know of the trainer that it is about. The step tells it: nothing of this is
/// written down here a second time.
pub struct Trainer {
    /// The layers of each stage.
    pub stages: Vec<Range<i64>>,
    /// The passes that each stage makes in a step, in order.
    pub passes: Vec<Vec<Pass>>,
    /// Tokens whose logits exist at one time.
    pub chunk_len: u64,
    /// Cuts a list of gradients, of these sizes in bytes, into buckets of at most so many bytes.
    pub cut: fn(&[usize], usize) -> Vec<Range<usize>>,
}

/// A world on paper. Sizes are those of one rank: what tp and cp split is divided already.
pub struct Plan {
    /// The settings of the run.
    pub config: Run,
    pub(crate) trainer: Trainer,
    /// Of a replica, in a step.
    pub micro_batches: u64,
    /// Tokens of a micro-batch.
    pub tokens: u64,
    /// Those of them that the rank has between products: with sequence parallelism, its share.
    pub own_tokens: u64,
    /// Width of the activations between layers.
    pub hidden: u64,
    /// Width of the queries.
    pub q: u64,
    /// Width of the keys, and of the values.
    pub kv: u64,
    /// Width inside the feed-forward half of a layer.
    pub intermediate: u64,
    /// Bytes of a number in a matrix product.
    pub compute: u64,
    /// Bytes of a number in a weight.
    pub weight: u64,
    /// Bytes of a number in a softmax.
    pub softmax: u64,
}

/// Bytes that a rank holds: throughout a step, and for a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The parameters themselves.
    pub weights: u64,
    /// Copies of weights as products read them: cast, and side by side.
    pub copies: u64,
    /// One for each parameter, in its dtype.
    pub gradients: u64,
    /// Both moments of AdamW.
    pub optimizer: u64,
    /// What autograd keeps of all micro-batches in flight.
    pub activations: u64,
    /// The most that is held for an operation or a few: logits, gradients being computed.
    pub at_work: u64,
}

impl Memory {
    /// What is held throughout a step.
    pub fn held(&self) -> u64 {
        self.weights + self.copies + self.gradients + self.optimizer + self.activations
    }

    /// What is held at the worst moment of a step.
    pub fn total(&self) -> u64 {
        self.held() + self.at_work
    }
}

impl Plan {
    /// The plan of a run of `trainer` with these settings.
    pub fn new(config: Run, trainer: Trainer) -> Self {
        let (model, layout) = (&config.model, config.layout);
        let (tp, head_dim) = (layout.tp as i64, model.head_dim());
        let (compute, weight, softmax) = match config.dtype {
            Dtype::Bf16 => (2, 4, 4),
            Dtype::F32 => (4, 4, 4),
            Dtype::F64 => (8, 8, 8),
        };
        let tokens = (config.micro_batch * config.seq_len / layout.cp) as u64;
        Self {
            trainer,
            micro_batches: config.micro_batches() as u64,
            tokens,
            own_tokens: if config.activations.sequence_parallel {
                tokens / tp as u64
            } else {
                tokens
            },
            hidden: model.hidden_size as u64,
            q: (model.num_attention_heads / tp * head_dim) as u64,
            kv: (model.kv_heads() / tp * head_dim) as u64,
            intermediate: (model.intermediate_size / tp) as u64,
            compute,
            weight,
            softmax,
            config,
        }
    }

    /// Numbers in each parameter of the rank at `at`, in the order of the forward pass.
    pub fn parameters(&self, at: Coords) -> Vec<u64> {
        let (h, i) = (self.hidden, self.intermediate);
        let attention = [self.q * h, self.kv * h, self.kv * h, h * self.q];
        let layer = [&[h][..], &attention, &[h, i * h, i * h, h * i]].concat();
        let embedding = self.vocab(at.tp) * h;
        let (first, last) = self.ends(at.pp);
        let mut all = if first { vec![embedding] } else { vec![] };
        all.extend(layer.repeat(self.layers(at.pp) as usize));
        if last {
            all.push(h);
            let tied = first && self.config.model.tie_word_embeddings; // held already
            all.extend((!tied).then_some(embedding));
        }
        all
    }

    /// What the rank at `at` holds.
    pub fn memory(&self, at: Coords) -> Memory {
        let weights = self.parameters(at).iter().sum::<u64>() * self.weight;
        let head = if self.ends(at.pp).1 { self.vocab(at.tp) * self.hidden } else { 0 };
        // The head's gradient is computed with its loss.
        let activations = self.in_flight(at.pp) * (self.of_tokens(at) + head * self.weight);
        let (copies, at_work) = (self.copied(at) * self.compute, self.at_work(at));
        Memory { weights, copies, gradients: weights, optimizer: 2 * weights, activations, at_work }
    }

    /// The most micro-batches whose activations a stage keeps at one time.
    pub fn in_flight(&self, stage: usize) -> u64 {
        in_flight(&self.trainer.passes[stage])
    }

    /// Numbers of the weights that are copied for products: those that are stacked, or cast to the
    /// dtype of the products.
    pub fn copied(&self, at: Coords) -> u64 {
        let column = self.q + 2 * self.kv + 2 * self.intermediate;
        let row = if self.compute < self.weight { self.q + self.intermediate } else { 0 };
        self.layers(at.pp) * (column + row) * self.hidden
    }

    /// Bytes read and written by all operations of a micro-batch, forward and backward, that are
    /// neither a product nor attention.
    pub fn elementwise(&self, at: Coords) -> u64 {
        // A norm reads and writes; backward it reads x and the gradient, writes, and reads both
        // again for its weight. A sum of two reads both and writes; its gradients are added alike.
        // Of these, a rank computes its own tokens alone.
        let own = |n: u64| n * self.own_tokens / self.tokens;
        let (norm, sum) = (own(7 * self.hidden), own(6 * self.hidden));
        // Forward and backward, x is multiplied (read, written) and its halves are added to (3).
        let rotary = 10 * (self.q + self.kv);
        // The gradients of queries, keys and values are put side by side.
        let beside = 2 * (self.q + 2 * self.kv);
        // silu (2), the product (3); backward two products (3 each) and silu's gradient (3).
        let swiglu = 14 * self.intermediate;
        let (c, s) = (self.compute, self.softmax);
        // For each block of the ring: its output is cast (c, s) and blended in (3s); its gradient
        // to the queries is added (2s + c), those to keys and values too, to zeros, and then to
        // what came (6s + c).
        let hops = self.config.layout.cp as u64 - 1;
        let ring = hops * (self.q * (2 * c + 6 * s) + 2 * self.kv * (c + 6 * s));
        // Once more forward: both norms, rotary, SwiGLU, and the sums of whole layers. SwiGLU's
        // gradient computes it too.
        let again = match self.config.activations.recompute {
            Recompute::None => 0,
            Recompute::Elementwise => 2 * own(2 * self.hidden) + 10 * self.intermediate,
            Recompute::Layer => {
                2 * own(5 * self.hidden) + 5 * (self.q + self.kv) + 5 * self.intermediate
            }
        };
        let layer = (2 * norm + 2 * sum + rotary + beside + swiglu + again) * c + ring;
        let head = if self.ends(at.pp).1 { norm * c } else { 0 };
        self.tokens * (self.layers(at.pp) * layer + head)
    }

    /// The layers of each stage.
    pub fn stages(&self) -> &[Range<i64>] {
        &self.trainer.stages
    }

    /// Layers of a stage.
    pub fn layers(&self, stage: usize) -> u64 {
        self.trainer.stages[stage].clone().count() as u64
    }

    /// Whether a stage is the first, and the last.
    pub fn ends(&self, stage: usize) -> (bool, bool) {
        (stage == 0, stage + 1 == self.stages().len())
    }

    /// Rows of the embedding and the head on a tp rank.
    pub fn vocab(&self, rank: usize) -> u64 {
        let (vocab_size, ranks) = (self.config.model.vocab_size, self.config.layout.tp);
        let Range { start, end } = shard_range(vocab_size, rank, ranks);
        (end - start) as u64
    }
}
