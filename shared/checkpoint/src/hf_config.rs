//! Reading the `config.json` of a Hugging Face model.
//!
//! transformers takes any key, and computes with whatever it knows of them. So each key is either
//! read here, or must have the value with which it changes nothing, or is known to be harmless; the
//! rest is told to the caller.

use crate::LlamaConfig;
use crate::config::{default_eps, default_positions};
use crate::hf_keys;
use crate::hf_rope::{self, HfRope};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

impl LlamaConfig {
    /// Reads `config.json` of a Hugging Face model directory, in the spelling with `rope_theta` and
    /// `rope_scaling` or in the newer one with `rope_parameters`. Returns with it what whoever uses
    /// the model should know, a sentence each: keys that are passed over because nobody knows them.
    ///
    /// # Errors
    /// If the file is missing or no Llama's, if it has a setting that would change what is computed
    /// and is not implemented, or if it says the same thing twice and differently.
    pub fn from_hf_dir(dir: &Path) -> Result<(Self, Vec<String>)> {
        let path = dir.join("config.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        crate::refuse_pointer(&path)?;
        Self::from_hf_json(&text).with_context(|| format!("{}", path.display()))
    }

    /// As [`LlamaConfig::from_hf_dir`], from the text of `config.json`.
    pub fn from_hf_json(text: &str) -> Result<(Self, Vec<String>)> {
        let mut json = serde_json::Deserializer::from_str(text);
        let hf: HfConfig =
            serde_path_to_error::deserialize(&mut json).context("not a Llama config.json")?;
        json.end().context("not a Llama config.json")?;
        let all: Map<String, Value> = serde_json::from_str(text)?;
        if hf.model_type != "llama" {
            bail!("model_type is \"{}\", but only \"llama\" can be loaded", hf.model_type);
        }
        if !["silu", "swish"].contains(&hf.hidden_act.as_str()) {
            bail!("hidden_act is \"{}\", but Llama's is \"silu\"", hf.hidden_act);
        }
        if hf.attention_bias || hf.mlp_bias {
            bail!("attention_bias and mlp_bias must be false: Llama's linear layers have no bias");
        }
        if let (Some(new), Some(old)) = (&hf.dtype, &hf.torch_dtype) {
            ensure!(
                new == old,
                "dtype is \"{new}\", but torch_dtype, its older name, is \"{old}\""
            );
        }
        let notes = hf_keys::check(&all)?;
        let says = |name: &str| {
            all.get(name).and_then(Value::as_object).is_some_and(|table| !table.is_empty())
        };
        let (rope_theta, rope_scaling) = hf_rope::read(
            [
                ("rope_scaling", hf.rope_scaling.filter(|_| says("rope_scaling"))),
                ("rope_parameters", hf.rope_parameters.filter(|_| says("rope_parameters"))),
            ],
            hf.rope_theta,
            hf.original_max_position_embeddings,
            hf.max_position_embeddings,
        )?;
        // transformers' LlamaConfig has these two ids wherever a file says nothing.
        let id = |name: &str, default: Value| {
            let id = all.get(name).cloned().unwrap_or(default); // one, or a list
            (!id.is_null()).then(|| (name.to_owned(), id))
        };
        let ids = [
            id("bos_token_id", 1.into()),
            id("eos_token_id", 2.into()),
            id("pad_token_id", Value::Null),
        ];
        let model = Self {
            vocab_size: hf.vocab_size,
            hidden_size: hf.hidden_size,
            intermediate_size: hf.intermediate_size,
            num_hidden_layers: hf.num_hidden_layers,
            num_attention_heads: hf.num_attention_heads,
            num_key_value_heads: hf.num_key_value_heads,
            head_dim: hf.head_dim,
            rms_norm_eps: hf.rms_norm_eps,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: hf.tie_word_embeddings,
            max_position_embeddings: hf.max_position_embeddings,
            token_ids: ids.into_iter().flatten().collect(),
        };
        Ok((model, notes))
    }
}

/// What is read of a `config.json`.
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
    /// Some models have it here and not in the table of the rotary embedding.
    original_max_position_embeddings: Option<i64>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "default_positions")]
    max_position_embeddings: i64,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    /// That of the files, which say themselves what it is.
    dtype: Option<String>,
    torch_dtype: Option<String>,
}

fn llama() -> String {
    "llama".into()
}
fn silu() -> String {
    "silu".into()
}
