//! What a run's settings say to the reporter and to the sampler.

use crate::{Dtype, Gpu, Settings};
use checkpoint::LlamaConfig;
use data::Sampling;

/// Operations of the model's own for each token, forward and backward, in a sample of `seq_len`: in
/// the usual count ([`report::flops_per_token`]) and in the strict one.
pub fn flops_per_token(model: &LlamaConfig, seq_len: usize) -> [f64; 2] {
    let shapes = || model.weights().map(|(_, shape)| shape);
    let numbers = |shape: Vec<i64>| shape.into_iter().product::<i64>() as u64;
    let parameters: u64 = shapes().map(numbers).sum();
    // Tokens are multiplied by every matrix but the embedding, unless that is the head too.
    let embedding = (model.vocab_size * model.hidden_size) as u64;
    let looked_up = if model.tie_word_embeddings { 0 } else { embedding };
    let matrices = shapes().filter(|shape| shape.len() == 2).map(numbers).sum::<u64>() - looked_up;
    let (layers, seq_len) = (model.num_hidden_layers as u64, seq_len as u64);
    let width = (model.num_attention_heads * model.head_dim()) as u64; // of the queries
    [
        report::flops_per_token(parameters, layers, width, seq_len),
        report::strict_flops_per_token(matrices, layers, width, seq_len),
    ]
}

/// What a [`report::Reporter`] must know of the run; the leader is the one rank that shows it.
pub fn report_options(config: &impl Settings, leader: bool) -> report::Options {
    let (common, run) = (config.common(), config.common().run);
    let [usual, strict] = flops_per_token(common.model, common.data.seq_len);
    let ordinal = run.gpu_of_rank.map(|gpu| gpu.ordinal);
    let name = ordinal.and_then(|ordinal| ::gpu::name(ordinal).ok());
    let gpu = name.and_then(|name| Gpu::from_cuda_name(&name));
    report::Options {
        leader,
        steps: common.train.steps,
        tokens_per_step: common.train.global_batch * common.data.seq_len,
        flops_per_token: usual,
        strict_flops_per_token: strict,
        peak_flops: peak_flops(gpu, run.dtype, run.gpus),
        peak_memory: match ordinal {
            Some(_) => ::gpu::peak_memory,
            None => report::peak_memory_bytes,
        },
        metrics: run.metrics.clone(),
        log_every: run.log_every,
        plot: run.plot.clone(),
        tensorboard: run.tensorboard.clone(),
        ..report::Options::default()
    }
}

/// The text that the run ends with.
pub fn sampling(config: &impl Settings) -> Sampling<'_> {
    let common = config.common();
    Sampling {
        tokenizer: common.data.tokenizer.as_deref(),
        prompt: &common.run.prompt,
        tokens: common.run.sample,
        temperature: common.run.temperature,
        top_k: common.run.top_k,
        seed: common.train.seed,
        seq_len: common.data.seq_len,
        device: common.run.device(),
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
            let model = LlamaConfig {
                vocab_size: 10,
                hidden_size: 8,
                intermediate_size: 12,
                num_hidden_layers: 1,
                num_attention_heads: 4,
                num_key_value_heads: Some(2),
                tie_word_embeddings: tied,
                ..LlamaConfig::default()
            };
            let seq = 128;
            let usual = report::flops_per_token(parameters, 1, 8, seq);
            let strict = report::strict_flops_per_token(matrices + 80, 1, 8, seq);
            assert_eq!(flops_per_token(&model, seq as usize), [usual, strict], "tied {tied}");
        }
    }
}
