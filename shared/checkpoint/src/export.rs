//! Writing a model as Hugging Face does.

use crate::LlamaConfig;
use crate::safetensors_dir::{self, INDEX, WEIGHTS};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use tch::{Kind, Tensor};

impl LlamaConfig {
    /// Writes `config.json` for weights of dtype `kind`, in the spelling with `rope_theta` and
    /// `rope_scaling`, which every version of transformers reads.
    pub fn write_hf(&self, dir: &Path, kind: Kind) -> Result<()> {
        let mut config = serde_json::to_value(self)?;
        let dtype = match kind {
            Kind::Double => "float64",
            Kind::BFloat16 => "bfloat16",
            _ => "float32",
        };
        let more = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "head_dim": self.head_dim(),
            "num_key_value_heads": self.kv_heads(),
            "torch_dtype": dtype,
        });
        if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
            config.extend(more);
            if let Some(Value::Object(rope)) = config.get_mut("rope_scaling") {
                rope.insert("rope_type".into(), "llama3".into());
            }
        }
        write(&dir.join("config.json"), &serde_json::to_vec_pretty(&config)?)
    }
}

/// Writes one of `files` files of weights, numbered from 0: `model.safetensors` where it is the only
/// one. Returns what an index says of it: for each tensor the file's name and its size in bytes.
pub fn write_weights(
    dir: &Path,
    file: usize,
    files: usize,
    tensors: &[(String, Tensor)],
) -> Result<Vec<(String, String, u64)>> {
    let name = match files {
        1 => WEIGHTS.to_owned(),
        _ => format!("model-{:05}-of-{files:05}.safetensors", file + 1),
    };
    let (path, partial) = (dir.join(&name), dir.join(format!(".{name}.partial")));
    safetensors_dir::write(&partial, tensors)
        .and_then(|()| Ok(fs::rename(&partial, &path)?))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let bytes = |t: &Tensor| (t.numel() * t.kind().elt_size_in_bytes()) as u64;
    Ok(tensors.iter().map(|(tensor, t)| (tensor.clone(), name.clone(), bytes(t))).collect())
}

/// Ends an export whose files are all written, as `entries` say: writes the index of more than one
/// file, and removes what an export before it has left, which a reader could take for these weights.
pub fn finish_weights(dir: &Path, entries: &[(String, String, u64)]) -> Result<()> {
    let mut files: BTreeSet<&str> = entries.iter().map(|(_, file, _)| file.as_str()).collect();
    if files.len() > 1 {
        let total: u64 = entries.iter().map(|(_, _, bytes)| bytes).sum();
        let map: BTreeMap<_, _> = entries.iter().map(|(tensor, file, _)| (tensor, file)).collect();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        write(&dir.join(INDEX), &serde_json::to_vec_pretty(&index)?)?;
        files.insert(INDEX);
    }
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_weights(&name) && !files.contains(name.as_str()) {
            let old = dir.join(name);
            fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    Ok(())
}

/// Whether a Hugging Face model's weights may be in a file of this name.
fn is_weights(name: &str) -> bool {
    let shard = || name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-");
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    [WEIGHTS, INDEX].contains(&name) || shard().is_some_and(|(n, of)| number(n) && number(of))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
