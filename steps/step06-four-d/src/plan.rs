//! What each rank of a run will hold and send, counted from the settings alone.

use cli::{Config, DeviceName, DpSync, Dtype, Schedule};
use comm::Coords;
use report::CommBytes;
use std::ops::Range;

use crate::layers::part;
use crate::pipeline_parallel::stages;

/// Tokens whose logits exist at one time, as in `loss.rs`.
pub const SLICE: u64 = 512;

/// A world on paper. Sizes are those of one rank: what tp and cp share is divided already.
pub struct Plan<'a> {
    pub config: &'a Config,
    /// The layers of each stage.
    pub stages: Vec<Range<i64>>,
    pub micro_batches: u64,
    /// Tokens of a micro-batch.
    pub tokens: u64,
    pub hidden: u64,
    /// Width of the queries, and of the keys.
    pub q: u64,
    pub kv: u64,
    pub intermediate: u64,
    /// Bytes of a number in a product, in a weight, and in a softmax.
    pub compute: u64,
    pub weight: u64,
    pub softmax: u64,
}

/// Bytes that a rank holds throughout a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub weights: u64,
    pub gradients: u64,
    /// Both moments of AdamW.
    pub optimizer: u64,
    /// What autograd keeps of all micro-batches in flight.
    pub activations: u64,
}

impl Memory {
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.optimizer + self.activations
    }
}

impl<'a> Plan<'a> {
    pub fn new(config: &'a Config) -> Self {
        let (model, layout) = (&config.model, config.parallel.layout);
        let (tp, head_dim) = (layout.tp as i64, model.head_dim());
        let (compute, weight, softmax) = match config.run.dtype {
            Dtype::Bf16 => (2, 4, 4),
            Dtype::F32 => (4, 4, 4),
            Dtype::F64 => (8, 8, 8),
        };
        Self {
            config,
            stages: stages(model, config.data.seq_len, layout.pp),
            micro_batches: config.micro_batches() as u64,
            tokens: (config.train.micro_batch * config.data.seq_len / layout.cp) as u64,
            hidden: model.hidden_size as u64,
            q: (model.num_attention_heads / tp * head_dim) as u64,
            kv: (model.kv_heads() / tp * head_dim) as u64,
            intermediate: (model.intermediate_size / tp) as u64,
            compute,
            weight,
            softmax,
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

    pub fn memory(&self, at: Coords) -> Memory {
        let weights = self.parameters(at).iter().sum::<u64>() * self.weight;
        let activations = self.in_flight(at.pp) * (self.of_tokens(at) + self.of_weights(at));
        Memory { weights, gradients: weights, optimizer: 2 * weights, activations }
    }

    /// The most micro-batches whose activations a stage keeps at one time.
    pub fn in_flight(&self, stage: usize) -> u64 {
        let stages = (self.stages.len() - stage) as u64; // this one and those behind it
        match self.config.parallel.schedule {
            Schedule::OneForwardOneBackward => self.micro_batches.min(stages),
            Schedule::AllForwardAllBackward => self.micro_batches,
        }
    }

    /// Bytes that autograd keeps of a micro-batch until its backward pass, a row for each token.
    pub fn of_tokens(&self, at: Coords) -> u64 {
        let (t, h, c) = (self.tokens, self.hidden, self.compute);
        let (bf16, (first, last)) = (c < self.weight, self.ends(at.pp));
        // A norm: what it reads, in the weights' dtype, and a factor a token. libtorch's kernel for
        // CUDA needs no more; on CPU its parts also keep the product before the weight.
        let normed = match self.config.run.device {
            DeviceName::Cpu => 2,
            DeviceName::Cuda => 1,
        };
        let norm = t * (normed * h + 1) * self.weight;
        let norms = 2 * (norm + t * h * c); // and what they hand to the products behind
        // Queries, keys, values, output; and the logarithm of each softmax's denominator.
        let heads = self.q / self.config.model.head_dim() as u64;
        let attention = t * (2 * self.q + 2 * self.kv) * c + t * heads * self.softmax;
        let mlp = t * 4 * self.intermediate * c; // gate, up, silu(gate) and its product with up
        let layers = self.layers(at.pp) * (norms + attention + mlp);
        let start = match first {
            true => t * 9, // rows of the embedding, and which tokens are another rank's
            false if bf16 => t * h * c, // what was received: the norm keeps a wider copy
            false => 0,
        };
        // The head's norm and the gradient to its output; or what the next stage was sent.
        layers + start + if last { norm + t * h * c } else { t * h * c }
    }

    /// Bytes that autograd keeps beside them, of the size of weights, for each micro-batch again.
    pub fn of_weights(&self, at: Coords) -> u64 {
        // Weights side by side, or cast: for the gradient of what they multiply.
        let column = self.q + 2 * self.kv + 2 * self.intermediate;
        let row = if self.compute < self.weight { self.q + self.intermediate } else { 0 };
        let layers = self.layers(at.pp) * (column + row) * self.hidden * self.compute;
        // The head's gradient is computed with its loss.
        let head = if self.ends(at.pp).1 { self.vocab(at.tp) * self.hidden } else { 0 };
        layers + head * self.weight
    }

    /// Bytes that the rank at `at` sends in one step; the trainer's own count is the same.
    pub fn comm_bytes(&self, at: Coords) -> CommBytes {
        let (layout, m, t) = (self.config.parallel.layout, self.micro_batches, self.tokens);
        let (h, c, w) = (self.hidden, self.compute, self.weight);
        let (first, last) = self.ends(at.pp);
        let data = |n: u64| w * ring(n, at.dp * layout.cp + at.cp, layout.dp * layout.cp);
        let buckets = self.buckets(self.parameters(at));

        let sum = |n: u64, width: u64| width * ring(n, at.tp, layout.tp);
        let mut tp = self.layers(at.pp) * 4 * sum(t * h, c) + u64::from(first) * sum(t * h, c);
        for start in (0..t).step_by(SLICE as usize).filter(|_| last) {
            let slice = SLICE.min(t - start);
            // Maximum, both sums of the softmax, and the gradient to the head's input.
            tp += sum(slice, self.softmax) + sum(2 * slice, self.softmax) + sum(slice * h, c);
        }
        let control = w * ring(1, at.pp, layout.pp); // the loss, or the gradient norm
        let neighbours = u64::from(!first) + u64::from(!last);
        // Keys and values go around forward and backward; their gradients, in the dtype of the
        // softmax, come home.
        let hops = layout.cp as u64 - 1;
        let cp = self.layers(at.pp) * hops * 2 * t * self.kv * (2 * c + self.softmax);
        CommBytes {
            dp: buckets.into_iter().map(data).sum::<u64>() + data(1),
            tp: m * tp + sum(1, w),
            pp: m * neighbours * t * h * c + self.sum_ends(at) + 2 * control,
            cp: m * cp,
        }
    }

    /// What the first and the last stage send each other where both hold the embedding.
    pub fn sum_ends(&self, at: Coords) -> u64 {
        let (first, last) = self.ends(at.pp);
        let both = self.config.model.tie_word_embeddings && first != last;
        if both { self.vocab(at.tp) * self.hidden * self.weight } else { 0 }
    }

    /// Numbers in each all-reduce of the gradients, cut as `data_parallel.rs` cuts them.
    fn buckets(&self, parameters: Vec<u64>) -> Vec<u64> {
        let parallel = &self.config.parallel;
        if parallel.dp_sync == DpSync::Naive {
            return parameters;
        }
        let most = (parallel.bucket_mb * 1048576.0) as u64;
        let mut buckets: Vec<u64> = vec![];
        for numbers in parameters.into_iter().rev() {
            match buckets.last_mut() {
                Some(last) if (*last + numbers) * self.weight <= most => *last += numbers,
                _ => buckets.push(numbers),
            }
        }
        buckets
    }

    pub fn layers(&self, stage: usize) -> u64 {
        self.stages[stage].clone().count() as u64
    }

    /// Whether a stage is the first, and the last.
    pub fn ends(&self, stage: usize) -> (bool, bool) {
        (stage == 0, stage + 1 == self.stages.len())
    }

    /// Rows of the embedding and the head on a tp rank.
    pub fn vocab(&self, rank: usize) -> u64 {
        let words = part(self.config.model.vocab_size, rank, self.config.parallel.layout.tp);
        (words.end - words.start) as u64
    }
}

/// Numbers that group rank `rank` of `n` sends to sum `len` of them around a ring: all chunks but its
/// own, then all but its right neighbour's.
fn ring(len: u64, rank: usize, n: usize) -> u64 {
    let (rank, n) = (rank as u64, n as u64);
    let chunk = |c: u64| len * (c + 1) / n - len * c / n;
    if n == 1 { 0 } else { 2 * len - chunk(rank) - chunk((rank + 1) % n) }
}
