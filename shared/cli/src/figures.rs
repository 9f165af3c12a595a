//! What a reporter must know about a run to turn its times into figures.

use crate::Config;
use crate::choices::{Dtype, Gpu};

impl Config {
    /// For [`report::Reporter`]; the leader is the one rank that shows the run.
    pub fn report(&self, leader: bool) -> report::Options {
        let (model, seq_len) = (&self.model, self.data.seq_len as u64);
        let shapes = || model.weights().map(|(_, shape)| shape);
        let numbers = |shape: Vec<i64>| shape.into_iter().product::<i64>() as u64;
        let parameters: u64 = shapes().map(numbers).sum();
        // Tokens are multiplied by every matrix but the embedding, unless that is the head too.
        let embedding = (model.vocab_size * model.hidden_size) as u64;
        let looked_up = if model.tie_word_embeddings { 0 } else { embedding };
        let matrices =
            shapes().filter(|shape| shape.len() == 2).map(numbers).sum::<u64>() - looked_up;
        let layers = model.num_hidden_layers as u64;
        let width = (model.num_attention_heads * model.head_dim()) as u64; // of the queries

        let ordinal = self.run.gpu_of_rank.map(|gpu| gpu.ordinal);
        let name = ordinal.and_then(|ordinal| ::gpu::name(ordinal).ok());
        let gpu = name.and_then(|name| Gpu::from_cuda_name(&name));
        report::Options {
            leader,
            steps: self.train.steps,
            tokens_per_step: self.tokens_per_step(),
            flops_per_token: report::flops_per_token(parameters, layers, width, seq_len),
            strict_flops_per_token: report::strict_flops_per_token(
                matrices, layers, width, seq_len,
            ),
            peak_flops: peak_flops(gpu, self.run.dtype, self.run.gpus),
            peak_memory: match ordinal {
                Some(_) => ::gpu::peak_memory,
                None => report::peak_memory_bytes,
            },
            metrics: self.run.metrics.clone(),
            ..report::Options::default()
        }
    }
}

/// What all GPUs of the run together could compute in a second; `None` if the figures of this kind
/// of GPU are not known.
fn peak_flops(gpu: Option<Gpu>, dtype: Dtype, gpus: usize) -> Option<f64> {
    gpu.map(|gpu| gpus as f64 * gpu.figures().peak(dtype))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;
    use comm::Layout;

    #[test]
    fn the_peak_is_that_of_all_gpus() {
        assert_eq!(peak_flops(Some(Gpu::A100), Dtype::Bf16, 16), Some(16.0 * 312e12));
        assert_eq!(peak_flops(Some(Gpu::A100), Dtype::F32, 1), Some(19.5e12));
        assert_eq!(peak_flops(None, Dtype::Bf16, 16), None);
    }

    #[test]
    fn operations_are_counted_from_the_weights() {
        // One layer: q and o 8 × 8, k and v 4 × 8, three matrices of 8 × 12; 10 words.
        let matrices = 2 * 64 + 2 * 32 + 3 * 96;
        for (tied, parameters) in
            [(true, 80 + matrices + 3 * 8), (false, 2 * 80 + matrices + 3 * 8)]
        {
            let program = Program { step: 1, about: "", layout: Layout::default() };
            let mut config = crate::parse(&program, Vec::<String>::new(), |_| None).unwrap();
            config.model = checkpoint::LlamaConfig {
                vocab_size: 10,
                hidden_size: 8,
                intermediate_size: 12,
                num_hidden_layers: 1,
                num_attention_heads: 4,
                num_key_value_heads: Some(2),
                head_dim: None,
                tie_word_embeddings: tied,
                ..config.model
            };
            let (options, seq) = (config.report(true), config.data.seq_len as u64);
            let usual = report::flops_per_token(parameters, 1, 8, seq);
            let strict = report::strict_flops_per_token(matrices + 80, 1, 8, seq);
            assert_eq!(options.flops_per_token, usual, "tied {tied}");
            assert_eq!(options.strict_flops_per_token, strict, "tied {tied}");
        }
    }
}
