//! The architecture of a Llama, under Hugging Face's names.

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// The fields of a Hugging Face `config.json` that shape the computation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlamaConfig {
    /// Token ids are 0 up to this.
    pub vocab_size: i64,
    /// Width of the activations between layers.
    pub hidden_size: i64,
    /// Width inside the feed-forward half of a layer.
    pub intermediate_size: i64,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the embedding is the head too.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// The longest sequence, in tokens.
    #[serde(default = "default_positions")]
    pub max_position_embeddings: i64,
    /// Hugging Face's `bos_token_id`, `eos_token_id` and `pad_token_id`, where the model came with
    /// them: they do not affect the computation, and are kept for an export.
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

fn default_eps() -> f64 {
    1e-6
}
fn default_theta() -> f64 {
    10_000.0
}
fn default_positions() -> i64 {
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

    /// Reads `config.json` of a Hugging Face model directory, in the spelling with `rope_theta` and
    /// `rope_scaling` or in the newer one with `rope_parameters`.
    pub fn from_hf_dir(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::from_hf_json(&text).with_context(|| format!("{}", path.display()))
    }

    /// As [`LlamaConfig::from_hf_dir`], from the text of `config.json`.
    pub fn from_hf_json(text: &str) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_str(text);
        let hf: HfConfig =
            serde_path_to_error::deserialize(&mut json).context("not a Llama config.json")?;
        json.end().context("not a Llama config.json")?;
        if hf.model_type != "llama" {
            bail!("model_type is \"{}\", but only \"llama\" can be loaded", hf.model_type);
        }
        if hf.hidden_act != "silu" {
            bail!("hidden_act is \"{}\", but Llama's is \"silu\"", hf.hidden_act);
        }
        if hf.attention_bias || hf.mlp_bias {
            bail!("attention_bias and mlp_bias must be false: Llama's linear layers have no bias");
        }
        // The newer spelling moves theta and the scaling into one table.
        let (theta, rope) = match hf.rope_parameters {
            Some(rope) => (rope.rope_theta.or(hf.rope_theta), Some(rope)),
            None => (hf.rope_theta, hf.rope_scaling),
        };
        let token_ids = [
            ("bos_token_id", hf.bos_token_id),
            ("eos_token_id", hf.eos_token_id), // one, or a list
            ("pad_token_id", hf.pad_token_id),
        ];
        let token_ids = token_ids.into_iter().map(|(name, id)| (name.to_owned(), id));
        Ok(Self {
            vocab_size: hf.vocab_size,
            hidden_size: hf.hidden_size,
            intermediate_size: hf.intermediate_size,
            num_hidden_layers: hf.num_hidden_layers,
            num_attention_heads: hf.num_attention_heads,
            num_key_value_heads: hf.num_key_value_heads,
            head_dim: hf.head_dim,
            rms_norm_eps: hf.rms_norm_eps,
            rope_theta: theta.unwrap_or_else(default_theta),
            rope_scaling: rope.map(HfRope::scaling).transpose()?.flatten(),
            tie_word_embeddings: hf.tie_word_embeddings,
            max_position_embeddings: hf.max_position_embeddings,
            token_ids: token_ids.filter(|(_, id)| !id.is_null()).collect(),
        })
    }
}

/// `config.json` as Hugging Face writes it. Its many other keys do not matter here, and are
/// ignored.
#[derive(Deserialize)]
struct HfConfig {
    #[serde(default = "llama")]
    model_type: String,
    #[serde(default = "silu")]
    hidden_act: String,
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    head_dim: Option<i64>,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<HfRope>,
    rope_parameters: Option<HfRope>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "default_positions")]
    max_position_embeddings: i64,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    bos_token_id: Value,
    #[serde(default)]
    eos_token_id: Value,
    #[serde(default)]
    pad_token_id: Value,
}

fn llama() -> String {
    "llama".into()
}
fn silu() -> String {
    "silu".into()
}

#[derive(Deserialize)]
struct HfRope {
    rope_type: Option<String>,
    /// The older name of `rope_type`; many files have both.
    #[serde(rename = "type")]
    older_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<i64>,
}

impl HfRope {
    fn scaling(self) -> Result<Option<RopeScaling>> {
        if let (Some(new), Some(old)) = (&self.rope_type, &self.older_type) {
            ensure!(new == old, "rope_type is \"{new}\", but type, its older name, is \"{old}\"");
        }
        match self.rope_type.or(self.older_type).as_deref() {
            None if self.factor.is_some() => {
                bail!("the rotary embedding has a factor, but no rope_type")
            }
            None | Some("default") => Ok(None),
            Some("llama3") => {
                let need = "rope_type \"llama3\" needs";
                Ok(Some(RopeScaling {
                    factor: self.factor.with_context(|| format!("{need} factor"))?,
                    low_freq_factor: self
                        .low_freq_factor
                        .with_context(|| format!("{need} low_freq_factor"))?,
                    high_freq_factor: self
                        .high_freq_factor
                        .with_context(|| format!("{need} high_freq_factor"))?,
                    original_max_position_embeddings: self
                        .original_max_position_embeddings
                        .with_context(|| format!("{need} original_max_position_embeddings"))?,
                }))
            }
            Some(other) => {
                bail!("rope_type is \"{other}\", but only \"default\" and \"llama3\" can be loaded")
            }
        }
    }
}
