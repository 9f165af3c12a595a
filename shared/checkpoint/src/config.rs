//! The architecture of a Llama, under Hugging Face's names.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The fields of a Hugging Face `config.json` that shape the computation. The default is a model of
/// nothing, for those who fill it in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlamaConfig {
    /// Token ids are 0 up to this.
    pub vocab_size: i64,
    /// Width of the activations between layers.
    pub hidden_size: i64,
    /// Width inside the feed-forward half of a layer.
    pub intermediate_size: i64,
    /// Layers of the decoder.
    pub num_hidden_layers: i64,
    /// Heads of the queries.
    pub num_attention_heads: i64,
    /// Fewer than `num_attention_heads` is grouped-query attention; absent, every head has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<i64>,
    /// Absent: `hidden_size / num_attention_heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<i64>,
    /// Added to the mean square, under the root.
    #[serde(default = "default_eps")]
    pub rms_norm_eps: f64,
    /// Pair i of a head turns by rope_theta^(−2i/head_dim) a position.
    #[serde(default = "default_theta")]
    pub rope_theta: f64,
    /// Slower rotations for long sequences; absent, they are not scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the embedding is the head too.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// The longest sequence, in tokens.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: i64,
    /// Hugging Face's `bos_token_id`, `eos_token_id` and `pad_token_id`, where the model came with
    /// them: they do not affect the computation here, and are kept for an export.
    #[serde(skip)]
    pub token_ids: Map<String, Value>,
}

/// Llama 3.1's frequency scaling of the rotary embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// Wavelengths above the low-frequency limit are stretched by this.
    pub factor: f64,
    /// That limit: pairs that turn less often than this within the original context.
    pub low_freq_factor: f64,
    /// Pairs that turn more often than this are left alone; between the two, something between.
    pub high_freq_factor: f64,
    /// The context length that the unscaled frequencies were trained for, in tokens.
    pub original_max_position_embeddings: i64,
}

pub(crate) fn default_eps() -> f64 {
    1e-6
}
pub(crate) fn default_theta() -> f64 {
    10_000.0
}
pub(crate) fn default_positions() -> i64 {
    2048
}

impl LlamaConfig {
    /// Key/value heads (`num_key_value_heads`, or one for every query head).
    pub fn kv_heads(&self) -> i64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of one head.
    pub fn head_dim(&self) -> i64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }
}
