//! One safetensors file, mapped: a reader touches only the bytes that it wants.

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::slice::TensorIndexer;
use safetensors::tensor::{Metadata, TensorInfo, TensorView};
use safetensors::{Dtype, SafeTensors};
use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::{Bound, Range};
use std::path::Path;
use tch::{Kind, Tensor};

#[derive(Debug)]
pub(crate) struct Mapped {
    bytes: Mmap,
    /// Where the tensors' bytes begin.
    start: usize,
    metadata: Metadata,
}

impl Mapped {
    /// The names of its tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.metadata.tensors().into_keys()
    }

    /// The dtype, shape and bytes of a tensor.
    pub(crate) fn tensor(&self, name: &str) -> Result<(Dtype, &[usize], &[u8])> {
        let info = self.metadata.info(name).context("is not in the model's files")?;
        let bytes = &self.bytes[self.start..][info.data_offsets.0..info.data_offsets.1];
        Ok((info.dtype, &info.shape, bytes))
    }

    /// As [`crate::safetensors_dir::SafetensorsDir::find`], in this file.
    pub(crate) fn find(&self, name: &str, shape: &[i64]) -> Result<(&TensorInfo, Kind)> {
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

    /// As [`crate::safetensors_dir::SafetensorsDir::read`], from this file.
    pub(crate) fn read(&self, name: &str, shape: &[i64], slice: &[Range<i64>]) -> Result<Tensor> {
        let (info, kind) = self.find(name, shape)?;
        let view = TensorView::new(info.dtype, info.shape.clone(), self.tensor(name)?.2)?;
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
        crate::refuse_pointer(path)?;
        // SAFETY: the map is read-only, and a model's files are not rewritten while it is loaded.
        let bytes = unsafe { Mmap::map(&file) }
            .with_context(|| format!("cannot map {}", path.display()))?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| {
            anyhow::anyhow!("{} is not a whole safetensors file: {e}", path.display())
        })?;
        Ok(Self { start: 8 + header, bytes, metadata })
    }
}
