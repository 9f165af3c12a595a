//! What each rank of a run will send, counted from the settings alone.

use comm::{Coords, GROUPS, all_reduce_bytes};
use report::CommBytes;

use crate::plan::Plan;

impl Plan {
    /// Bytes that the rank at `at` sends in one step; the trainer's own count is the same.
    pub fn comm_bytes(&self, at: Coords) -> CommBytes {
        let (layout, m, t) = (self.config.layout, self.micro_batches, self.tokens);
        let (h, c, w) = (self.hidden, self.compute, self.weight);
        let (first, last) = self.ends(at.pp);
        let sum_over = |n: u64, width: u64, rank: usize, ranks: usize| {
            all_reduce_bytes(n as usize, width as usize, rank, ranks)
        };
        let data = |n: u64| sum_over(n, w, at.dp * layout.cp + at.cp, layout.dp * layout.cp);
        let buckets = self.buckets(at);

        let sum = |n: u64, width: u64| sum_over(n, width, at.tp, layout.tp);
        let (layers, settings) = (self.layers(at.pp), self.config.activations);
        // A sum of all tokens, or half of it: a reduce-scatter, or an all-gather.
        let whole = sum(t * h, c);
        let half = t * h * c * (layout.tp as u64 - 1) / layout.tp as u64;
        let (forward, gather) = match (settings.sequence_parallel, settings.gather_twice) {
            (false, _) => (2 * whole, 0),
            (true, twice) => (4 * half, if twice { 2 * half } else { 0 }),
        };
        let again = if settings.layers_again() { forward } else { 0 };
        let end = if settings.sequence_parallel { 2 * half } else { whole };
        // The embedding, and the gradient to the head's input; with sequence parallelism the gradient
        // to the embedding is gathered, and so is the head's input.
        let mut tp = layers * (2 * forward + gather + again);
        tp += (u64::from(first) + u64::from(last)) * end;
        let chunk_len = self.trainer.chunk_len;
        for start in (0..t).step_by(chunk_len as usize).filter(|_| last) {
            let chunk = chunk_len.min(t - start);
            // The maximum, and both sums of the softmax.
            tp += sum(chunk, self.softmax) + sum(2 * chunk, self.softmax);
        }
        // With sequence parallelism the gradients of all norms are summed, in one buffer.
        let norms = if settings.sequence_parallel { (2 * layers + u64::from(last)) * h } else { 0 };
        let control = sum_over(1, w, at.pp, layout.pp); // the loss, or the gradient norm
        let neighbours = u64::from(!first) + u64::from(!last);
        // Keys and values go around forward, and backward from where their first hop has brought
        // them; their gradients, in the dtype of the softmax, come home.
        let hops = layout.cp as u64 - 1;
        let again = if settings.layers_again() { hops * c } else { 0 };
        let kv = (2 * hops).saturating_sub(1) * c + hops * self.softmax + again;
        let cp = self.layers(at.pp) * 2 * t * self.kv * kv;
        let none = GROUPS.iter().filter_map(|kind| Some((kind.counted_as?, 0)));
        let sent = [
            ("dp", buckets.into_iter().map(data).sum::<u64>() + data(1)),
            ("tp", m * tp + sum(norms, w) + sum(1, w)),
            ("pp", m * neighbours * self.own_tokens * h * c + self.sum_tied_grad(at) + 2 * control),
            ("cp", m * cp),
        ];
        none.chain(sent).collect()
    }

    /// What the first and the last stage send each other where both hold the embedding.
    pub fn sum_tied_grad(&self, at: Coords) -> u64 {
        let (first, last) = self.ends(at.pp);
        let both = self.config.model.tie_word_embeddings && first != last;
        if both { self.vocab(at.tp) * self.hidden * self.weight } else { 0 }
    }

    /// Numbers in each all-reduce of the gradients of the rank at `at`, in the order of the
    /// backward pass, cut as the trainer cuts them; with `dp-sync` naive in the order of the
    /// forward pass.
    pub fn buckets(&self, at: Coords) -> Vec<u64> {
        let mut parameters = self.parameters(at);
        let Some(most) = self.config.bucket_bytes else { return parameters };
        parameters.reverse();
        let sizes: Vec<usize> = parameters.iter().map(|n| (n * self.weight) as usize).collect();
        let buckets = (self.trainer.cut)(&sizes, most);
        buckets.into_iter().map(|members| parameters[members].iter().sum()).collect()
    }
}
