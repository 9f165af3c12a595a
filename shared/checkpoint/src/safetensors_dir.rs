//! Reading slices out of a directory of safetensors files.

use crate::mapped::Mapped;
use anyhow::{Context, Result, bail, ensure};
use safetensors::{Dtype, SafeTensorError, View};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The name of the file of weights if there is only one.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// The name of the file that says which of several files holds each tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
pub(crate) const HEAD: &str = "lm_head.weight";

/// The mapped files of one model, and which of them holds what.
pub(crate) struct SafetensorsDir {
    files: Vec<Mapped>,
    /// Tensor name to position in `files`.
    index: BTreeMap<String, usize>,
    /// Whether the embedding is there under the name of the head alone, to which it is tied.
    head_alone: bool,
}

/// A tensor whose bytes are copied when its turn to be written comes: a model's tensors may fill
/// the memory of a GPU, and the CPU then holds a copy of one of them at a time.
struct Unwritten<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl View for Unwritten<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.tensor.to_device(Device::Cpu).contiguous();
        let mut bytes = vec![0; self.data_len()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

/// Writes tensors to one file, marked as PyTorch's, which transformers requires.
/// Half a file is left to nobody.
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    write_all(path, tensors).inspect_err(|_| drop(std::fs::remove_file(path)))
}

fn write_all(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let mut views = vec![];
    for (name, tensor) in tensors {
        let dtype = match tensor.kind() {
            Kind::Double => Dtype::F64,
            Kind::Float => Dtype::F32,
            Kind::Half => Dtype::F16,
            Kind::BFloat16 => Dtype::BF16,
            other => bail!("{name} has dtype {other:?}, which a model's file does not hold"),
        };
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        views.push((name, Unwritten { tensor, dtype, shape }));
    }
    let mark = [("format".to_owned(), "pt".to_owned())].into();
    // safetensors makes files that only their owner can read; these get the permissions
    // of any new file.
    let mode = File::create(path)?.metadata()?.permissions();
    safetensors::serialize_to_file(views, Some(mark), path).map_err(|error| match error {
        // Its message repeats its cause's, so a chain would say it twice.
        SafeTensorError::IoError(cause) => anyhow::Error::from(cause),
        error => error.into(),
    })?;
    Ok(std::fs::set_permissions(path, mode)?)
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl SafetensorsDir {
    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let index = dir.join(INDEX);
        let mut names = vec![WEIGHTS.to_owned()];
        let mut promised = BTreeMap::new();
        if index.exists() && !dir.join(&names[0]).exists() {
            let text = std::fs::read_to_string(&index)
                .with_context(|| format!("cannot read {}", index.display()))?;
            crate::refuse_pointer(&index)?;
            let parsed: Index = serde_json::from_str(&text)
                .with_context(|| format!("{} is not an index of shards", index.display()))?;
            promised = parsed.weight_map;
            promised.retain(|name, _| !is_ignored(name));
            names = promised.values().cloned().collect();
            names.sort();
            names.dedup();
        }
        let files: Vec<Mapped> =
            names.iter().map(|name| Mapped::open(&dir.join(name))).collect::<Result<_>>()?;
        let mut index = BTreeMap::new();
        for (position, file) in files.iter().enumerate() {
            for name in file.names() {
                let first = *index.entry(name.clone()).or_insert(position);
                ensure!(
                    file.tensor(&name)? == files[first].tensor(&name)?,
                    "{name} is in {} and in {}, and is not the same there: remove one of them",
                    dir.join(&names[first]).display(),
                    dir.join(&names[position]).display()
                );
            }
        }
        // A tied model needs one of the two, and transformers writes either.
        let is_tied = is_tied(dir);
        let either = |name: &str| is_tied && [EMBEDDING, HEAD].contains(&name);
        let head_alone = is_tied && !index.contains_key(EMBEDDING) && index.contains_key(HEAD);
        for (name, file) in promised {
            let holder = names.iter().position(|other| *other == file);
            let is_there = holder.is_some_and(|holder| files[holder].tensor(&name).is_ok());
            let other_is =
                either(&name) && [EMBEDDING, HEAD].iter().any(|n| index.contains_key(*n));
            if !is_there && !other_is {
                bail!("the index of {} promises {name} in {file}, which lacks it", dir.display());
            }
        }
        Ok(Self { files, index, head_alone })
    }

    /// Reads a slice of `name`, whose whole shape must be `shape`, in the file's dtype. Touches
    /// only the bytes of the slice.
    pub(crate) fn read(&self, name: &str, shape: &[i64], slice: &[Range<i64>]) -> Result<Tensor> {
        let (file, name) = self.place(name)?;
        file.read(name, shape, slice)
    }

    /// Whether [`SafetensorsDir::read`] would find `name`.
    ///
    /// # Errors
    /// Those that reading would have.
    pub(crate) fn find(&self, name: &str, shape: &[i64]) -> Result<()> {
        let (file, name) = self.place(name)?;
        file.find(name, shape).map(drop)
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.index.keys()
    }

    /// The dtype, shape and bytes of a tensor in its file.
    pub(crate) fn tensor(&self, name: &str) -> Result<(Dtype, &[usize], &[u8])> {
        let (file, name) = self.place(name)?;
        file.tensor(name)
    }

    /// The file that holds a tensor, and its name there.
    fn place<'a>(&self, name: &'a str) -> Result<(&Mapped, &'a str)> {
        let name = if self.head_alone && name == EMBEDDING { HEAD } else { name };
        Ok((&self.files[*self.index.get(name).context("is not in the model's files")?], name))
    }
}

/// Tables of angles, which old versions of transformers saved and new ones ignore.
pub(crate) fn is_ignored(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq")
}

/// Whether the `config.json` in `dir` says that the embedding is the head too.
fn is_tied(dir: &Path) -> bool {
    let config = std::fs::read(dir.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    config["tie_word_embeddings"] == true
}
