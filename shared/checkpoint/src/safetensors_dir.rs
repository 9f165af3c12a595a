//! Reading slices out of a directory of safetensors files.

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::slice::TensorIndexer;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors, View};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::{Bound, Range};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The name of the file of weights if there is only one.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// The name of the file that says which of several files holds each tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The mapped files of one model, and which of them holds what.
pub(crate) struct SafetensorsDir {
    files: Vec<Mapped>,
    /// Tensor name to position in `files`.
    index: BTreeMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct Mapped {
    bytes: Mmap,
    /// Where the tensors' bytes begin.
    start: usize,
    metadata: Metadata,
}

/// A tensor whose bytes are copied when its turn to be written comes: a model's tensors may fill the
/// memory of a GPU, and the CPU then holds a copy of one of them at a time.
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
pub(crate) fn write(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
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
    // safetensors makes files that only their owner can read; these get the permissions of any new
    // file.
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
            let parsed: Index = serde_json::from_str(&text)
                .with_context(|| format!("{} is not an index of shards", index.display()))?;
            promised = parsed.weight_map;
            names = promised.values().cloned().collect();
            names.sort();
            names.dedup();
        }
        let files: Vec<Mapped> =
            names.iter().map(|name| Mapped::open(&dir.join(name))).collect::<Result<_>>()?;
        let mut index = BTreeMap::new();
        for (position, file) in files.iter().enumerate() {
            index.extend(file.metadata.tensors().into_keys().map(|name| (name, position)));
        }
        for (name, file) in promised {
            if index.get(&name).is_none_or(|&position| names[position] != file) {
                bail!("the index of {} promises {name} in {file}, which lacks it", dir.display());
            }
        }
        Ok(Self { files, index })
    }

    /// Reads a slice of `name`, whose whole shape must be `shape`, in the file's dtype. Touches
    /// only the bytes of the slice.
    pub(crate) fn read(&self, name: &str, shape: &[i64], slice: &[Range<i64>]) -> Result<Tensor> {
        self.file(name)?.read(name, shape, slice)
    }

    /// Whether [`SafetensorsDir::read`] would find `name`.
    ///
    /// # Errors
    /// Those that reading would have.
    pub(crate) fn find(&self, name: &str, shape: &[i64]) -> Result<()> {
        self.file(name)?.find(name, shape).map(drop)
    }

    /// The names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.index.keys()
    }

    /// The bytes of a tensor in its file.
    pub(crate) fn bytes(&self, name: &str) -> Result<&[u8]> {
        let file = self.file(name)?;
        let info = file.metadata.info(name).context("is not in the model's files")?;
        Ok(&file.bytes[file.start..][info.data_offsets.0..info.data_offsets.1])
    }

    fn file(&self, name: &str) -> Result<&Mapped> {
        Ok(&self.files[*self.index.get(name).context("is not in the model's files")?])
    }
}

impl Mapped {
    fn find(&self, name: &str, shape: &[i64]) -> Result<(&TensorInfo, Kind)> {
        let info = self.metadata.info(name).context("is not in the model's files")?;
        let found: Vec<i64> = info.shape.iter().map(|&n| n as i64).collect();
        ensure!(found == shape, "has shape {found:?} where the config says {shape:?}");
        let kind = match info.dtype {
            Dtype::F64 => Kind::Double,
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => bail!("has dtype {other:?}, but only F64, F32, F16 and BF16 can be loaded"),
        };
        Ok((info, kind))
    }

    /// As [`SafetensorsDir::read`], from this file.
    pub(crate) fn read(&self, name: &str, shape: &[i64], slice: &[Range<i64>]) -> Result<Tensor> {
        let (info, kind) = self.find(name, shape)?;
        let (begin, end) = info.data_offsets;
        let bytes = &self.bytes[self.start + begin..self.start + end];
        let view = TensorView::new(info.dtype, info.shape.clone(), bytes)?;
        let index: Vec<TensorIndexer> = slice
            .iter()
            .map(|range| {
                let (start, end) = (range.start as usize, range.end as usize);
                TensorIndexer::Narrow(
                    Bound::Included(start),
                    Bound::Excluded(end),
                    NonZeroUsize::MIN,
                )
            })
            .collect();
        let pieces = view.sliced_data(&index).map_err(|e| anyhow::anyhow!("{e}"))?;
        let mut data = Vec::with_capacity(pieces.remaining_byte_len());
        pieces.for_each(|piece| data.extend_from_slice(piece));
        let shape: Vec<i64> = slice.iter().map(|range| range.end - range.start).collect();
        Ok(Tensor::from_data_size(&data, &shape, kind))
    }

    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file =
            File::open(path).with_context(|| format!("cannot open weights {}", path.display()))?;
        // SAFETY: the map is read-only, and a model's files are not rewritten while it is loaded.
        let bytes = unsafe { Mmap::map(&file) }
            .with_context(|| format!("cannot map {}", path.display()))?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| {
            anyhow::anyhow!("{} is not a whole safetensors file: {e}", path.display())
        })?;
        Ok(Self { start: 8 + header, bytes, metadata })
    }
}
