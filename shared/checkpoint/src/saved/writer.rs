//! Writing a checkpoint.

use super::digest::digest;
use super::names::{name_of, partial_in, partial_of};
use super::{FORMAT, MANIFEST, Manifest, Piece, Progress, RankFile, lock};
use crate::{LlamaConfig, safetensors_dir};
use anyhow::{Context, Result, ensure};
use std::cell::OnceCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// A checkpoint that is being written.
pub struct CheckpointWriter {
    partial: PathBuf,
    target: PathBuf,
    /// Held from [`CheckpointWriter::begin`] until the writer is dropped.
    lock: OnceCell<File>,
}

impl CheckpointWriter {
    /// The checkpoint of `step` in `dir`, on any rank.
    pub fn new(dir: &Path, step: usize) -> Self {
        let (partial, target) = (dir.join(partial_of(step)), dir.join(name_of(step)));
        Self { partial, target, lock: OnceCell::new() }
    }

    /// Makes an empty directory to write to. Call it once, before any rank writes.
    ///
    /// # Errors
    /// If another run is saving to the directory, the checkpoint already exists, or the directory
    /// cannot be made.
    pub fn begin(&self) -> Result<()> {
        let (shown, dir) = (self.target.display(), self.target.parent().unwrap_or(Path::new(".")));
        let lock = lock::take(dir)?;
        self.lock.get_or_init(|| lock);
        ensure!(!self.target.exists(), "checkpoint {shown} already exists");
        for left in partial_in(dir)? {
            fs::remove_dir_all(&left).with_context(|| {
                format!("cannot remove {}, which an interrupted run has left", left.display())
            })?;
        }
        fs::create_dir_all(&self.partial).with_context(|| format!("cannot make {shown}"))
    }

    /// Writes the file of rank `rank`, with these pieces of tensors.
    ///
    /// # Errors
    /// If a tensor does not have the extents of its piece, or the file cannot be written; nothing of it is
    /// left then.
    pub fn write(&self, rank: usize, tensors: Vec<(Piece, Tensor)>) -> Result<RankFile> {
        for (Piece { name, region, .. }, tensor) in &tensors {
            let (is, said) = (tensor.size(), &region.extents);
            ensure!(is == *said, "{name} has shape {is:?}, and its note says {said:?}");
        }
        let (pieces, tensors): (Vec<Piece>, Vec<Tensor>) = tensors.into_iter().unzip();
        let file = format!("rank-{rank:05}.safetensors");
        let path = self.partial.join(&file);
        let named: Vec<_> = pieces.iter().map(|p| p.name.clone()).zip(tensors).collect();
        let cannot = || format!("cannot write {}", path.display());
        safetensors_dir::write(&path, &named).with_context(cannot)?;
        File::open(&path).and_then(|f| f.sync_all()).with_context(cannot)?;
        let (bytes, sha256) = digest(&path)?;
        Ok(RankFile { file, bytes, sha256, tensors: pieces })
    }

    /// Makes the checkpoint visible. Call it once, after every rank has written its file.
    ///
    /// # Errors
    /// If it cannot be written; the checkpoint before it is then still the newest.
    pub fn commit(
        self,
        model: &LlamaConfig,
        progress: Progress,
        files: Vec<RankFile>,
    ) -> Result<()> {
        let manifest = Manifest { format: FORMAT, model: model.clone(), progress, files };
        let path = self.partial.join(MANIFEST);
        let sync = |path: &Path| File::open(path).and_then(|f| f.sync_all());
        fs::write(&path, serde_json::to_vec(&manifest)?)
            .and_then(|()| sync(&path))
            .and_then(|()| sync(&self.partial))
            .and_then(|()| fs::rename(&self.partial, &self.target))
            .and_then(|()| sync(self.target.parent().unwrap_or(Path::new("."))))
            .with_context(|| format!("cannot write checkpoint {}", self.target.display()))
    }
}
