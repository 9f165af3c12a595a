//! Checkpoints of a run: directories that appear whole or not at all.
//!
//! `DIR/step-000100/` holds one safetensors file for each rank that wrote, and `checkpoint.json`,
//! which says what is where. All of it is written under another name, and renamed when it is
//! complete: a directory with this name is a whole checkpoint, whenever the run was interrupted.

mod digest;
mod draft;
mod lock;
mod names;

pub use draft::Draft;
pub use names::{delete_older, named_in};

use crate::LlamaConfig;
use crate::mapped::Mapped;
use anyhow::{Context, Result, bail, ensure};
use digest::digest;
use names::{name_of, newest, step_of};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::Tensor;

const MANIFEST: &str = "checkpoint.json";
const FORMAT: u32 = 1;

/// The progress of a run, and what decides which samples come next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Updates made.
    pub step: usize,
    pub global_batch: usize,
    pub seq_len: usize,
    /// The seed of the order of samples, if they are shuffled.
    pub shuffle: Option<u64>,
    /// Samples in the data.
    pub samples: usize,
    /// A fingerprint that distinguishes the data from others with as many samples.
    pub data: u64,
    /// Settings that may become others where a run goes on, by name: it tells what they were. Empty
    /// in a checkpoint from before they were kept.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// What one rank wrote.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RankFile {
    file: String,
    bytes: u64,
    sha256: String,
    tensors: Vec<Held>,
}

/// A tensor in a file: all of it, or a range of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    pub name: String,
    /// Of the whole tensor.
    pub shape: Vec<i64>,
    /// The dimension along which it is split, and the part that is here.
    pub split: Option<(usize, Range<i64>)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    model: LlamaConfig,
    progress: Progress,
    files: Vec<RankFile>,
}

/// A complete checkpoint.
#[derive(Debug)]
pub struct Saved {
    dir: PathBuf,
    manifest: Manifest,
    /// Its files, each opened when it is first read: opening one parses the header of all its
    /// tensors.
    open: Vec<OnceCell<Mapped>>,
    /// Where each tensor or its pieces are, by name: which file, and which of its tensors.
    places: BTreeMap<String, Vec<(usize, usize)>>,
}

impl Saved {
    /// The checkpoint `dir`, or the newest one in it.
    ///
    /// # Errors
    /// If there is none, or a file of it is missing or does not have its original length.
    pub fn open(dir: &Path) -> Result<Self> {
        let is_one = dir.join(MANIFEST).exists();
        Self::load(if is_one { dir.to_owned() } else { newest(dir)? })
    }

    /// The checkpoint of `step` updates: `dir`, or the one in it.
    ///
    /// # Errors
    /// Those of [`Saved::open`], and if `dir` is a checkpoint of another number of updates.
    pub fn open_step(dir: &Path, step: usize) -> Result<Self> {
        let is_one = dir.join(MANIFEST).exists();
        let saved = Self::load(if is_one { dir.to_owned() } else { dir.join(name_of(step)) })?;
        let made = saved.progress().step;
        ensure!(made == step, "{} has made {made} updates, not {step}", dir.display());
        Ok(saved)
    }

    fn load(dir: PathBuf) -> Result<Self> {
        let shown = dir.display();
        let text = fs::read(dir.join(MANIFEST)).with_context(|| format!("cannot read {shown}"))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .with_context(|| format!("{shown}/{MANIFEST} is damaged"))?;
        let format = manifest.format;
        ensure!(format == FORMAT, "{shown} has format {format}; this program reads {FORMAT}");
        let (made, name) = (manifest.progress.step, dir.file_name().and_then(|name| name.to_str()));
        if let Some(named) = name.and_then(step_of) {
            ensure!(made == named, "{shown} has made {made} updates, but its name says {named}");
        }
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (number, RankFile { file, bytes, tensors, .. }) in manifest.files.iter().enumerate() {
            let found = fs::metadata(dir.join(file)).map(|about| about.len());
            let found = found.with_context(|| format!("{shown}/{file} cannot be read"))?;
            ensure!(found == *bytes, "{shown}/{file} has {found} bytes where {bytes} were written");
            for (place, held) in tensors.iter().enumerate() {
                places.entry(held.name.clone()).or_default().push((number, place));
            }
        }
        let open = manifest.files.iter().map(|_| OnceCell::new()).collect();
        Ok(Self { dir, manifest, open, places })
    }

    /// The directory of this one checkpoint.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the run stood.
    pub fn progress(&self) -> &Progress {
        &self.manifest.progress
    }

    /// The model whose checkpoint it is.
    pub fn model(&self) -> &LlamaConfig {
        &self.manifest.model
    }

    /// Compares every `ranks`-th file, from the `rank`-th on, with what was written.
    pub fn verify(&self, rank: usize, ranks: usize) -> Result<()> {
        for RankFile { file, sha256, .. } in self.manifest.files.iter().skip(rank).step_by(ranks) {
            let path = self.dir.join(file);
            let same = digest(&path)?.1 == *sha256;
            ensure!(same, "{} is not what was written: its SHA-256 differs", path.display());
        }
        Ok(())
    }

    /// The tensor `wanted`, or its part, from whichever files hold pieces of it.
    pub fn read(&self, wanted: &Held) -> Result<Tensor> {
        let Held { name, shape, split } = wanted;
        let (dim, range) = split.clone().unwrap_or((0, 0..shape[0]));
        let mut pieces = vec![];
        let mut next = range.start;
        while next < range.end {
            let (piece, end) = self.piece(name, shape, dim, next..range.end)?;
            pieces.push(piece);
            next = end;
        }
        Ok(if pieces.len() == 1 { pieces.remove(0) } else { Tensor::cat(&pieces, dim as i64) })
    }

    /// As much of `wanted` as the file that holds its beginning has, and where that ends.
    fn piece(
        &self,
        name: &str,
        shape: &[i64],
        dim: usize,
        wanted: Range<i64>,
    ) -> Result<(Tensor, i64)> {
        for &(number, place) in self.places.get(name).into_iter().flatten() {
            let RankFile { file, tensors, .. } = &self.manifest.files[number];
            let held = &tensors[place];
            ensure!(held.shape == shape, "{name} has shape {:?}, not {shape:?}", held.shape);
            let here = held.range(dim);
            if here.contains(&wanted.start) {
                let end = wanted.end.min(here.end);
                let mut part = shape.to_vec();
                part[dim] = here.end - here.start;
                let mut slice: Vec<_> = part.iter().map(|&n| 0..n).collect();
                slice[dim] = wanted.start - here.start..end - here.start;
                if self.open[number].get().is_none() {
                    let _ = self.open[number].set(Mapped::open(&self.dir.join(file))?);
                }
                let open = self.open[number].get().expect("opened above");
                let tensor = open.read(name, &part, &slice);
                return Ok((tensor.with_context(|| format!("{name} in {file}"))?, end));
            }
        }
        bail!("checkpoint {} lacks {name} from row {} on", self.dir.display(), wanted.start)
    }
}

impl Held {
    /// What is here along `dim`.
    fn range(&self, dim: usize) -> Range<i64> {
        match &self.split {
            Some((split, range)) if *split == dim => range.clone(),
            _ => 0..self.shape[dim],
        }
    }
}
