//! Files that must be there.

use super::Asked;
use crate::DeviceName;
use anyhow::{Context, Result, ensure};
use launch::Launcher;
use std::path::Path;

/// The most a little-endian u16 can name.
const U16_VOCABULARY: i64 = 1 << 16;

pub(super) fn check(asked: &Asked) -> Result<()> {
    let Asked { common, extras, file, .. } = *asked;
    file.map_or(Ok(()), |path| configuration(asked, path))?;
    let (data, tokenizer) = (common.data.data.as_deref(), common.data.tokenizer.as_deref());
    let eval_data = extras.eval_data;
    for (name, path) in [("data", data), ("tokenizer", tokenizer), ("eval-data", eval_data)] {
        path.map_or(Ok(()), |path| readable(name, path))?;
    }
    for (name, path) in [("data", data), ("eval-data", eval_data)] {
        path.map_or(Ok(()), |path| vocabulary(asked, name, path))?;
    }
    if let Some(path) = eval_data {
        ensure!(
            data::token_width(path).is_some() || !common.has_unnamed_tokens(),
            "eval-data {} is text, but data are tokens: it needs their tokenizer to become tokens of the same kind",
            path.display()
        );
    }
    if let Some(dir) = common.hf_model {
        let has = |name: &str| dir.join(name).is_file();
        ensure!(
            has("model.safetensors") || has("model.safetensors.index.json"),
            "hf-model {} has neither model.safetensors nor model.safetensors.index.json",
            dir.display()
        );
        checkpoint::check_weights(dir, common.model)
            .with_context(|| format!("hf-model {}", dir.display()))?;
    }
    Ok(())
}

fn readable(name: &str, path: &Path) -> Result<()> {
    let shown = path.display();
    let about =
        std::fs::metadata(path).with_context(|| format!("{name} {shown} cannot be read"))?;
    ensure!(about.is_file(), "{name} {shown} is not a file");
    checkpoint::refuse_pointer(path).with_context(|| name.to_owned())
}

fn vocabulary(asked: &Asked, name: &str, path: &Path) -> Result<()> {
    let (shown, vocab_size) = (path.display(), asked.common.model.vocab_size);
    ensure!(
        data::token_width(path) != Some(2) || vocab_size <= U16_VOCABULARY,
        "{name} {shown} holds u16 tokens, but vocab_size is {vocab_size} and u16 ends at {}: use a .u32 file",
        U16_VOCABULARY - 1
    );
    Ok(())
}

/// Each rank that is a process reads the configuration again, and from a pipe it would get nothing:
/// it would train with the defaults.
fn configuration(asked: &Asked, path: &Path) -> Result<()> {
    let (device, shown) = (asked.common.run.device, path.display());
    ensure!(
        path.is_file() || (asked.launcher == Launcher::Threads && device == DeviceName::Cpu),
        "config {shown} is not a regular file and can be read only once, but every process reads it: \
         save it to a file"
    );
    Ok(())
}
