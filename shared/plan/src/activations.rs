//! What autograd keeps of a forward pass, and what a pass needs for a moment.

use cli::DeviceName;
use comm::Coords;

use crate::plan::Plan;
use crate::run::Recompute;

impl Plan {
    /// Bytes that autograd keeps of a micro-batch until its backward pass, a row for each token.
    pub fn of_tokens(&self, at: Coords) -> u64 {
        let (t, own, h, c) = (self.tokens, self.own_tokens, self.hidden, self.compute);
        let (first, last) = self.ends(at.pp);
        let recompute = self.config.activations.recompute;
        let layer =
            if recompute == Recompute::Layer { own * h * c } else { self.of_layer(recompute) };
        let start = if first {
            t * 9 // rows of the embedding, and which tokens are another rank's
        } else if self.is_wider() && recompute == Recompute::None {
            own * h * c // what was received: the norm keeps a wider copy
        } else {
            0
        };
        // The head's norm and the gradient to what the head reads; or what the next stage was sent.
        let end = if last { self.of_norm() + t * h * c } else { own * h * c };
        self.layers(at.pp) * layer + start + end
    }

    /// Whether a norm computes in another dtype than products do, and keeps what it reads in that.
    fn is_wider(&self) -> bool {
        self.compute < self.weight && self.config.device == DeviceName::Cpu
    }

    /// What a norm keeps: what it reads, and a factor a token. On CPU its parts also keep what they
    /// computed in f32, and the product before the weight.
    fn of_norm(&self) -> u64 {
        let (own, h) = (self.own_tokens, self.hidden);
        match self.config.device {
            DeviceName::Cpu => own * (2 * h + 1) * self.weight,
            DeviceName::Cuda => own * (h * self.compute + self.softmax),
        }
    }

    /// What a layer keeps, if it is not itself computed again.
    fn of_layer(&self, recompute: Recompute) -> u64 {
        let (t, c, settings) = (self.tokens, self.compute, self.config.activations);
        let elementwise = recompute == Recompute::Elementwise;
        // What each column-parallel product reads: all tokens, or this rank's, to be gathered again.
        let read = match (settings.sequence_parallel, settings.gather_twice) {
            (true, false) => t * self.hidden * c,
            _ if elementwise => 0,
            _ => self.own_tokens * self.hidden * c,
        };
        // Queries, output, keys, values (in a ring also the neighbour's); and the logarithm of each
        // softmax's denominator.
        let heads = self.q / self.config.model.head_dim() as u64;
        let blocks = self.config.layout.cp.min(2) as u64;
        let attention = t * (2 * self.q + blocks * 2 * self.kv) * c + t * heads * self.softmax;
        // gate and up; silu(gate) and its product with up.
        let mlp = t * if elementwise { 2 } else { 4 } * self.intermediate * c;
        // What norms read, beside the wider copy that they keep themselves.
        let narrow =
            if elementwise && self.is_wider() { self.own_tokens * self.hidden * c } else { 0 };
        2 * (self.of_norm() + read + narrow) + attention + mlp
    }

    /// What is held beside what autograd keeps, at the largest of some moments. What is small
    /// beside them is not counted.
    pub(crate) fn at_work(&self, at: Coords) -> u64 {
        let (t, h, c, w) = (self.tokens, self.hidden, self.compute, self.weight);
        let cast = if c < w { c } else { 0 }; // a second one, in the dtype of products
        let (table, (first, last)) = (self.vocab(at.tp) * h, self.ends(at.pp));
        // A weight's gradient on a CPU is cast before it is added.
        let added = if self.config.device == DeviceName::Cpu { cast } else { 0 };
        let mlp = self.mlp_backward() + self.intermediate * h * added;
        // By then, what the head kept is gone.
        let mlp = if last { mlp.saturating_sub(self.of_norm() + t * h * c) } else { mlp };
        // The gradient to the whole table, before it is added to that of the micro-batches before.
        let embedding = u64::from(first) * table * w;
        // In the loss: what the head reads, and the cast head; in a chunk of it the softmax, its
        // cast gradient and the gradient to what was read.
        let chunk = t.min(self.trainer.chunk_len);
        let logits = chunk * self.vocab(at.tp) * (self.softmax + cast);
        let loss = logits + (t + chunk) * h * c + table * (cast + added);
        mlp.max(embedding).max(u64::from(last) * loss.max(self.norm_backward()))
    }

    /// What the backward pass of a norm holds. On a CPU its parts compute in the weights' dtype: three
    /// tensors at a time.
    fn norm_backward(&self) -> u64 {
        let (numbers, cast) = (self.own_tokens * self.hidden, self.compute < self.weight);
        match self.config.device {
            DeviceName::Cpu => numbers * (3 * self.weight + u64::from(cast) * self.compute),
            DeviceName::Cuda => 2 * numbers * self.compute,
        }
    }

    /// The most that the backward pass of the last layer's MLP adds to what was kept.
    fn mlp_backward(&self) -> u64 {
        let (t, own, h, i) = (self.tokens, self.own_tokens, self.hidden, self.intermediate);
        let (c, settings) = (self.compute, self.config.activations);
        // The gradients to silu(gate)·up, and to gate and up with a part on its way; what was kept
        // of the first product is gone. If it was not kept, silu(gate) and the product are here again.
        let swiglu = if settings.recompute == Recompute::Elementwise { 6 } else { 3 } * t * i;
        // What gate and up read, where it is gathered again, and the gradient to it, beside that to
        // gate and up. What SwiGLU kept is gone.
        let again = if settings.gather_twice { t * h } else { 0 };
        let product = (again + t * h).saturating_sub(2 * t * i);
        // A layer that is computed again is there as a whole, with what it gives, less its input
        // where its norm reads the one that was kept.
        let given = if self.is_wider() { own * h * c } else { 0 };
        let whole = self.of_layer(Recompute::None) + given;
        let layer = if settings.layers_again() { whole } else { 0 };
        // And at last the norm in front, when all that the MLP kept is gone.
        let gone = if settings.recompute == Recompute::Elementwise { 2 } else { 4 } * t * i * c;
        let norm = self.norm_backward().saturating_sub(gone);
        layer + own * h * c + (swiglu.max(product) * c).max(norm)
    }
}
