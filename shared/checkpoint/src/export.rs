//! Writing a model as Hugging Face does.

use crate::LlamaConfig;
use crate::beside;
use crate::safetensors_dir::{self, INDEX, WEIGHTS};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

const CONFIG: &str = "config.json";

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
            // Left out, they would be 1 and 2 to transformers, whatever tokens these are.
            for name in ["bos_token_id", "eos_token_id"] {
                config.insert(name.into(), Value::Null);
            }
            config.extend(self.token_ids.clone());
            if let Some(Value::Object(rope)) = config.get_mut("rope_scaling") {
                rope.insert("rope_type".into(), "llama3".into());
            }
        }
        write(dir, CONFIG, &serde_json::to_vec_pretty(&config)?)
    }
}

/// Writes one of `files` files of weights, numbered from 0: `model.safetensors` if it is the
/// only one. It gets its name in [`finish_weights`], when all are written. Returns its entries for
/// an index: for each tensor the file's name and its size in bytes.
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
    safetensors_dir::write(&partial(dir, &name), tensors)
        .with_context(|| format!("cannot write {}", dir.join(&name).display()))?;
    let bytes = |t: &Tensor| (t.numel() * t.kind().elt_size_in_bytes()) as u64;
    Ok(tensors.iter().map(|(tensor, t)| (tensor.clone(), name.clone(), bytes(t))).collect())
}

/// Ends an export whose files, those of `entries`, are all written: puts them in the place of
/// an earlier export, of which nothing is left, with an index if there is more than one. Call
/// [`crate::copy_tokenizer`] and [`LlamaConfig::write_hf`] after it: an older `config.json`
/// is removed first, so that whatever interrupts this, no reader takes a mixture of two
/// exports for a model.
pub fn finish_weights(dir: &Path, entries: &[(String, String, u64)]) -> Result<()> {
    let files: BTreeSet<&str> = entries.iter().map(|(_, file, _)| file.as_str()).collect();
    remove(&dir.join(CONFIG))?;
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_new = files.iter().any(|file| partial(dir, file) == dir.join(&name));
        if (is_weights(whole(&name)) || beside::is_beside(whole(&name))) && !is_new {
            remove(&dir.join(name))?;
        }
    }
    beside::remove_templates(dir)?;
    for file in &files {
        let path = dir.join(file);
        fs::rename(partial(dir, file), &path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if files.len() > 1 {
        let total: u64 = entries.iter().map(|(_, _, bytes)| bytes).sum();
        let map: BTreeMap<_, _> = entries.iter().map(|(tensor, file, _)| (tensor, file)).collect();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        write(dir, INDEX, &serde_json::to_vec_pretty(&index)?)?;
    }
    Ok(())
}

/// The name of a file while it is written.
fn partial(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.partial"))
}

/// The name that a file gets once it is written.
fn whole(name: &str) -> &str {
    let partial = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial"));
    partial.unwrap_or(name)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// Whether a file of this name may hold a Hugging Face model's weights, or some of them.
fn is_weights(name: &str) -> bool {
    let shard = || name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-");
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    [WEIGHTS, INDEX].contains(&name) || shard().is_some_and(|(n, of)| number(n) && number(of))
}

/// Writes a file that is there whole or not at all.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (draft, path) = (partial(dir, name), dir.join(name));
    fs::write(&draft, bytes)
        .and_then(|()| fs::rename(&draft, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}
