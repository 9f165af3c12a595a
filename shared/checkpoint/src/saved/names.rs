//! The names of checkpoints, and which of them exist.

use super::MANIFEST;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

pub(super) fn name_of(step: usize) -> String {
    format!("step-{step:06}")
}

/// What it is called while it is incomplete: not yet written, or already being deleted.
pub(super) fn partial_of(step: usize) -> String {
    format!(".{}.partial", name_of(step))
}

/// The updates that a checkpoint of this name has made; `None` for another name.
pub(super) fn step_of(name: &str) -> Option<usize> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (name == name_of(step)).then_some(step)
}

/// What is named like a checkpoint in `dir`, complete or not: updates made, and the path.
pub fn named_in(dir: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let named = entries(dir)?.into_iter();
    Ok(named.filter_map(|(name, path)| Some((step_of(&name)?, path))).collect())
}

/// What interrupted runs have left in `dir`.
pub(super) fn partial_in(dir: &Path) -> Result<Vec<PathBuf>> {
    let is_partial = |name: &str| {
        let step = name.strip_prefix('.').and_then(|rest| step_of(rest.strip_suffix(".partial")?));
        step.is_some()
    };
    let entries = entries(dir)?.into_iter();
    Ok(entries.filter(|(name, _)| is_partial(name)).map(|(_, path)| path).collect())
}

fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let named = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().into_string().ok()?, entry.path()))
    });
    Ok(named.collect())
}

/// Deletes the checkpoints in `dir` that are older than that of `step`, except for the `keep` − 1
/// newest of them. Later ones, if there are any, stay: another run has made them.
pub fn delete_older(dir: &Path, step: usize, keep: usize) -> Result<()> {
    let mut older: Vec<_> = named_in(dir)?.into_iter().filter(|(of, _)| *of < step).collect();
    older.sort();
    older.truncate((older.len() + 1).saturating_sub(keep));
    for (of, path) in older {
        // Renamed first, so that it is never found in part.
        let partial = dir.join(partial_of(of));
        fs::rename(&path, &partial)
            .and_then(|()| fs::remove_dir_all(&partial))
            .with_context(|| format!("cannot delete {}", path.display()))?;
    }
    Ok(())
}

/// The last complete checkpoint in `dir`.
pub(super) fn newest(dir: &Path) -> Result<PathBuf> {
    let complete = named_in(dir)?.into_iter().filter(|(_, path)| path.join(MANIFEST).exists());
    let newest = complete.max().map(|(_, path)| path);
    newest.with_context(|| format!("{} holds no complete checkpoint", dir.display()))
}
