//! The names of checkpoints, and which of them exist.

use super::MANIFEST;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) fn name_of(step: usize) -> String {
    format!("step-{step:06}")
}

/// The updates that a checkpoint of this name has made; `None` for another name.
pub(super) fn step_of(name: &str) -> Option<usize> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (name == name_of(step)).then_some(step)
}

/// What is named like a checkpoint in `dir`, complete or not: updates made, and the path.
pub fn named_in(dir: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let named = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        Some((step_of(path.file_name()?.to_str()?)?, path))
    });
    Ok(named.collect())
}

/// The last complete checkpoint in `dir`.
pub(super) fn newest(dir: &Path) -> Result<PathBuf> {
    let complete = named_in(dir)?.into_iter().filter(|(_, path)| path.join(MANIFEST).exists());
    let newest = complete.max().map(|(_, path)| path);
    newest.with_context(|| format!("{} holds no complete checkpoint", dir.display()))
}
