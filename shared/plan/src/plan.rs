//! What each rank of a run will hold, counted from the settings alone.

use cli::{Config, DeviceName, Dtype, Schedule};
use comm::Coords;
use std::ops::Range;

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
    /// `stages` are the layers of each stage, as the trainer cuts them.
    pub fn new(config: &'a Config, stages: Vec<Range<i64>>) -> Self {
        let (model, layout) = (&config.model, config.parallel.layout);
        let (tp, head_dim) = (layout.tp as i64, model.head_dim());
        let (compute, weight, softmax) = match config.run.dtype {
            Dtype::Bf16 => (2, 4, 4),
            Dtype::F32 => (4, 4, 4),
            Dtype::F64 => (8, 8, 8),
        };
        Self {
            config,
            stages,
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

    pub fn layers(&self, stage: usize) -> u64 {
        self.stages[stage].clone().count() as u64
    }

    /// Whether a stage is the first, and the last.
    pub fn ends(&self, stage: usize) -> (bool, bool) {
        (stage == 0, stage + 1 == self.stages.len())
    }

    /// Rows of the embedding and the head on a tp rank.
    pub fn vocab(&self, rank: usize) -> u64 {
        let (length, ranks) = (self.config.model.vocab_size, self.config.parallel.layout.tp as i64);
        let start = |rank: usize| length * rank as i64 / ranks;
        let words = start(rank)..start(rank + 1);
        (words.end - words.start) as u64
    }
}
