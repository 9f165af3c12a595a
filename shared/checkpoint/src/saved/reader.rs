//! Reading a checkpoint.

use super::digest::digest;
use super::names::{name_of, newest, step_of};
use super::{FORMAT, MANIFEST, Manifest, Piece, Progress, RankFile};
use crate::mapped::Mapped;
use crate::{LlamaConfig, Region};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tch::{Device, Tensor};

/// A complete checkpoint.
#[derive(Debug)]
pub struct CheckpointReader {
    dir: PathBuf,
    manifest: Manifest,
    /// Its files, each opened when it is first read: opening one parses the header of
    /// all its tensors.
    open: Vec<OnceCell<Mapped>>,
    /// Where the pieces of each tensor are, by its name: which file, and which of its tensors.
    places: BTreeMap<String, Vec<(usize, usize)>>,
}

/// What every format says.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl CheckpointReader {
    /// The checkpoint `dir`, or the newest one in it.
    ///
    /// # Errors
    /// If there is none, or it has another format, or a file of it is missing or does not have its
    /// original length.
    pub fn open(dir: &Path) -> Result<Self> {
        let is_one = dir.join(MANIFEST).exists();
        Self::load(if is_one { dir.to_owned() } else { newest(dir)? })
    }

    /// The checkpoint of `step` updates: `dir`, or the one in it.
    ///
    /// # Errors
    /// Those of [`CheckpointReader::open`], and if `dir` is a checkpoint of another number of updates.
    pub fn open_step(dir: &Path, step: usize) -> Result<Self> {
        let is_one = dir.join(MANIFEST).exists();
        let reader = Self::load(if is_one { dir.to_owned() } else { dir.join(name_of(step)) })?;
        let made = reader.progress().step;
        ensure!(made == step, "{} has made {made} updates, not {step}", dir.display());
        Ok(reader)
    }

    fn load(dir: PathBuf) -> Result<Self> {
        let shown = dir.display();
        let text = fs::read(dir.join(MANIFEST)).with_context(|| format!("cannot read {shown}"))?;
        let damaged = || format!("{shown}/{MANIFEST} is damaged");
        let Format { format } = serde_json::from_slice(&text).with_context(damaged)?;
        ensure!(
            format == FORMAT,
            "{shown} has format {format}, and this program reads format {FORMAT}: resume with the version \
             of the program that saved it"
        );
        let manifest: Manifest = serde_json::from_slice(&text).with_context(damaged)?;
        let (made, name) = (manifest.progress.step, dir.file_name().and_then(|name| name.to_str()));
        if let Some(named) = name.and_then(step_of) {
            ensure!(made == named, "{shown} has made {made} updates, but its name says {named}");
        }
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (number, RankFile { file, bytes, tensors, .. }) in manifest.files.iter().enumerate() {
            let found = fs::metadata(dir.join(file)).map(|about| about.len());
            let found = found.with_context(|| format!("{shown}/{file} cannot be read"))?;
            ensure!(found == *bytes, "{shown}/{file} has {found} bytes where {bytes} were written");
            for (place, Piece { name, global_shape, region }) in tensors.iter().enumerate() {
                let fits = region.is_within(global_shape);
                ensure!(fits, "{}: {name} has no {region}, for it is {global_shape:?}", damaged());
                places.entry(name.clone()).or_default().push((number, place));
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
    ///
    /// # Errors
    /// If one is not what was written, or cannot be read.
    pub fn verify(&self, rank: usize, ranks: usize) -> Result<()> {
        for RankFile { file, sha256, .. } in self.manifest.files.iter().skip(rank).step_by(ranks) {
            let path = self.dir.join(file);
            let same = digest(&path)?.1 == *sha256;
            ensure!(same, "{} is not what was written: its SHA-256 differs", path.display());
        }
        Ok(())
    }

    /// The box `wanted` of a tensor, from whichever files hold pieces of it: of the shape of its
    /// extents, in the dtype of the files, on the CPU.
    ///
    /// # Errors
    /// If the tensor has another shape here, a part of the box is in no file or in two, or a file
    /// cannot be read.
    pub fn read(&self, wanted: &Piece) -> Result<Tensor> {
        let overlaps = self.overlaps(wanted)?;
        if let [(number, held, both)] = &overlaps[..] {
            return self.piece(*number, held, both);
        }
        let mut whole: Option<Tensor> = None;
        for (number, held, both) in &overlaps {
            let piece = self.piece(*number, held, both)?;
            let empty = || Tensor::empty(&wanted.region.extents[..], (piece.kind(), Device::Cpu));
            let mut target = whole.get_or_insert_with(empty).shallow_clone();
            for (dim, range) in both.inside(&wanted.region).into_iter().enumerate() {
                target = target.narrow(dim as i64, range.start, range.end - range.start);
            }
            target.copy_(&piece);
        }
        whole.with_context(|| format!("{} is empty", wanted.name))
    }

    /// The pieces that overlap `wanted`, each with the number of its file, and what they have in
    /// common. Together these make up all of it, once.
    fn overlaps(&self, wanted: &Piece) -> Result<Vec<(usize, &Piece, Region)>> {
        let Piece { name, global_shape: shape, region } = wanted;
        let (mut overlaps, mut missing) =
            (Vec::<(usize, &Piece, Region)>::new(), vec![region.clone()]);
        for &(number, place) in self.places.get(name).into_iter().flatten() {
            let held = &self.manifest.files[number].tensors[place];
            let its_shape = &held.global_shape;
            ensure!(its_shape == shape, "{name} has shape {its_shape:?}, not {shape:?}");
            let Some(both) = held.region.overlap(region) else { continue };
            if let Some((other, again)) =
                overlaps.iter().find_map(|(other, _, own)| Some((other, own.overlap(&both)?)))
            {
                let [other, file] = [*other, number].map(|n| &self.manifest.files[n].file);
                anyhow::bail!(
                    "{}: {again} of {name} is in {other} and in {file}",
                    self.dir.display()
                );
            }
            missing = missing.iter().flat_map(|left| left.without(&both)).collect();
            overlaps.push((number, held, both));
        }
        if let Some(part) = missing.first() {
            anyhow::bail!("checkpoint {} lacks {part} of {name}", self.dir.display());
        }
        Ok(overlaps)
    }

    /// `part` of `held`, a piece in file `number`.
    fn piece(&self, number: usize, held: &Piece, part: &Region) -> Result<Tensor> {
        let Piece { name, region, .. } = held;
        let RankFile { file, .. } = &self.manifest.files[number];
        if self.open[number].get().is_none() {
            let _ = self.open[number].set(Mapped::open(&self.dir.join(file))?);
        }
        let open = self.open[number].get().expect("opened above");
        let tensor = open.read(name, &region.extents, &part.inside(region));
        tensor.with_context(|| format!("{name} in {file}"))
    }
}
