//! Settings that must be the same on all ranks of a run.

use crate::config::{Config, DataConfig, ParallelConfig, RunConfig, TrainConfig};
use checkpoint::LlamaConfig;
use data::Dataset;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

/// Enough to tell two prompts apart, and little enough for a rendezvous message.
const PROMPT_CHARS: usize = 100;

impl Config {
    /// Every setting that decides what is computed or what ranks say to each other, as a phrase
    /// such as `lr 0.001`; the layout is compared without it. A file may have another path on
    /// another host, so only whether it is given is compared, and for data the number of samples and
    /// what some of them say.
    /// What concerns one rank alone is left out.
    #[rustfmt::skip] // lists
    pub(crate) fn agreement(&self) -> Vec<String> {
        // Destructured in full: whoever adds a setting decides here whether ranks must agree on it.
        let Self { model, hf_model, data, train, parallel, run, dataset, eval_dataset, notes: _, signals: _ } = self;
        let DataConfig { data, eval_data, tokenizer, data_cache: _, seq_len, shuffle } = data;
        let TrainConfig {
            steps, micro_batch, global_batch, seed, lr, min_lr, warmup, weight_decay, clip, eval_every,
            eval_batches,
        } = train;
        let ParallelConfig { layout: _, dp_sync, bucket_mb, tp_sync, schedule, cp_layout } =
            parallel;
        let RunConfig {
            device, dtype, launcher: _, threads_per_rank: _, timeout: _, metrics: _, trace, sample, prompt,
            save, save_every, save_keep: _, resume, export_hf, dry_run: _, gpu: _, gpu_of_rank: _, gpus: _,
        } = run;

        let LlamaConfig {
            vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads,
            num_key_value_heads: _, head_dim: _, rms_norm_eps, rope_theta, rope_scaling,
            tie_word_embeddings, max_position_embeddings, token_ids: _,
        } = model;
        let samples = [dataset, eval_dataset].map(|set| set.as_deref().map_or("none".into(), samples));
        vec![
            format!("vocab_size {vocab_size}"),
            format!("hidden_size {hidden_size}"),
            format!("intermediate_size {intermediate_size}"),
            format!("num_hidden_layers {num_hidden_layers}"),
            format!("num_attention_heads {num_attention_heads}"),
            format!("num_key_value_heads {}", model.kv_heads()),
            format!("head_dim {}", model.head_dim()),
            format!("rms_norm_eps {rms_norm_eps:?}"),
            format!("rope_theta {rope_theta:?}"),
            format!("rope_scaling {}", rope_scaling.as_ref().map_or("none".into(), |rope| format!("{rope:?}"))),
            format!("tie_word_embeddings {tie_word_embeddings}"),
            format!("max_position_embeddings {max_position_embeddings}"),
            given("hf-model", hf_model),
            given("data", data),
            given("eval-data", eval_data),
            given("tokenizer", tokenizer),
            format!("seq-len {seq_len}"),
            format!("shuffle {shuffle}"),
            format!("steps {steps}"),
            format!("micro-batch {micro_batch}"),
            format!("global-batch {global_batch}"),
            format!("seed {seed}"),
            format!("lr {lr:?}"),
            format!("min-lr {min_lr:?}"),
            format!("warmup {warmup}"),
            format!("weight-decay {weight_decay:?}"),
            format!("clip {clip:?}"),
            every("eval-every", *eval_every),
            format!("eval-batches {eval_batches}"),
            format!("dp-sync {dp_sync}"),
            format!("bucket-mb {bucket_mb:?}"),
            format!("tp-sync {tp_sync}"),
            format!("schedule {schedule}"),
            format!("cp-layout {cp_layout}"),
            format!("device {device}"),
            format!("dtype {dtype}"),
            given("trace", trace),
            format!("sample {sample}"),
            shortened("prompt", prompt),
            given("save", save),
            every("save-every", *save_every),
            given("resume", resume),
            given("export-hf", export_hf),
            format!("samples of data: {}", samples[0]),
            format!("samples of eval-data: {}", samples[1]),
        ]
    }
}

fn given(name: &str, path: &Option<PathBuf>) -> String {
    format!("{}{name}", if path.is_some() { "" } else { "no " })
}

fn every(name: &str, steps: Option<usize>) -> String {
    steps.map_or_else(|| format!("no {name}"), |n| format!("{name} {n}"))
}

fn samples(dataset: &Dataset) -> String {
    format!("{}, with fingerprint {:016x}", dataset.samples(), dataset.fingerprint())
}

/// The text, or its beginning and a hash of all of it.
fn shortened(name: &str, text: &str) -> String {
    let start: String = text.chars().take(PROMPT_CHARS).collect();
    if start.len() == text.len() {
        return format!("{name} {text:?}");
    }
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    format!("{name} {start:?}…, with hash {:016x}", hash.finish())
}

#[cfg(test)]
mod tests;
