//! The trained model as Hugging Face would write it.

use anyhow::{Context, Result};
use checkpoint::{copy_tokenizer, finish_weights, shard_range, write_weights};
use cli::Config;
use comm::Mesh;
use std::path::Path;
use tch::{Device, Tensor};

use crate::layers::Parameter;

/// Writes `config.json`, the tokenizer and the weights to `dir`, a file for each stage. A collective: the
/// tp ranks of a stage send their shards to the first, which puts them together and writes.
pub fn export(dir: &Path, parameters: &[Parameter], config: &Config, mesh: &Mesh) -> Result<()> {
    if mesh.is_leader() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    mesh.patient.barrier()?; // now the directory is there
    let mut entries = vec![];
    if mesh.coords.dp == 0 && mesh.coords.cp == 0 {
        let mut tensors = vec![];
        // The first stage writes tied embeddings.
        for parameter in parameters.iter().filter(|p| !p.tied || mesh.coords.pp == 0) {
            if let Some(tensor) = whole(parameter, mesh)? {
                // Side by side, whole tensors might not fit on a GPU that holds a shard of each.
                tensors.push((parameter.name.clone(), tensor.to_device(Device::Cpu)));
            }
        }
        if mesh.coords.tp == 0 {
            let written = write_weights(dir, mesh.coords.pp, mesh.layout.pp, &tensors)?;
            entries = serde_json::to_vec(&written)?;
        }
    }
    let all = mesh.gather(entries)?;
    if mesh.is_leader() {
        let written = all.iter().filter(|bytes| !bytes.is_empty());
        let entries: Vec<Vec<_>> =
            written.map(|bytes| serde_json::from_slice(bytes)).collect::<Result<_, _>>()?;
        finish_weights(dir, &entries.concat())?;
        copy_tokenizer(dir, config.hf_model.as_deref(), config.data.tokenizer.as_deref())?;
        config.model.write_hf(dir, config.weights_kind())?;
    }
    Ok(mesh.patient.barrier()?)
}

/// All of a parameter, on the first tp rank; `None` on the others.
fn whole(parameter: &Parameter, mesh: &Mesh) -> Result<Option<Tensor>> {
    let (tp, mine) = (&mesh.tp, parameter.tensor.detach());
    let Some(dim) = parameter.split else { return Ok((tp.rank() == 0).then_some(mine)) };
    if tp.rank() > 0 {
        tp.send(&mine.contiguous(), 0)?;
        return Ok(None);
    }
    let mut shards = vec![mine];
    for rank in 1..tp.size() {
        let mut shape = parameter.shape.clone();
        let range = shard_range(shape[dim], rank, tp.size());
        shape[dim] = range.end - range.start;
        let shard = shards[0].new_empty(shape, (shards[0].kind(), shards[0].device()));
        tp.recv(&shard, rank)?;
        shards.push(shard);
    }
    Ok(Some(Tensor::cat(&shards, dim as i64)))
}
