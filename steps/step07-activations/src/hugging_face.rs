//! The trained model as Hugging Face would write it.

use anyhow::{Context, Result};
use checkpoint::{Placement, copy_tokenizer, finish_weights, write_weights};
use comm::Mesh;
use std::path::Path;
use tch::{Device, Tensor};

use crate::config::Config;
use crate::layers::Parameter;

/// Writes `config.json`, the tokenizer and the weights to `dir`, a file for each stage. A
/// collective: the tp ranks of a stage send their shards to the first, which puts them
/// together and writes.
pub fn export(dir: &Path, parameters: &[Parameter], config: &Config, mesh: &Mesh) -> Result<()> {
    if mesh.is_leader() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    mesh.untimed.barrier()?; // now the directory is there
    let mut written = None;
    if mesh.coords.dp == 0 && mesh.coords.cp == 0 {
        let mut tensors = vec![];
        // Of two stages with a tied embedding the first one writes it.
        for parameter in parameters.iter().filter(|p| p.pp.is_first(mesh.coords.pp)) {
            if let Some(tensor) = whole(parameter, mesh)? {
                // On the CPU: a GPU that holds a shard of each might not have room for
                // all whole tensors.
                tensors.push((parameter.name.clone(), tensor.to_device(Device::Cpu)));
            }
        }
        if mesh.coords.tp == 0 {
            written = Some(write_weights(dir, mesh.coords.pp, mesh.layout.pp, &tensors)?);
        }
    }
    let written = mesh.gather(written)?;
    if mesh.is_leader() {
        finish_weights(dir, &written.concat())?;
        let (from, tokenizer) = (config.hf_model.as_deref(), config.data.tokenizer.as_deref());
        let model = copy_tokenizer(dir, &config.model, from, tokenizer)?;
        model.write_hf(dir, config.run.weights_kind())?;
    }
    Ok(mesh.untimed.barrier()?)
}

/// All of a parameter, on the first tp rank; `None` on the others.
fn whole(parameter: &Parameter, mesh: &Mesh) -> Result<Option<Tensor>> {
    let (tp, mine) = (&mesh.tp, parameter.tensor.detach());
    let Placement::Shard(dim) = parameter.tp else {
        return Ok((tp.rank() == 0).then_some(mine));
    };
    if tp.rank() > 0 {
        tp.send(&mine.contiguous(), 0)?;
        return Ok(None);
    }
    let mut shards = vec![mine];
    for rank in 1..tp.size() {
        let shape = parameter.tp.region(&parameter.global_shape, rank, tp.size()).extents;
        let shard = shards[0].new_empty(shape, (shards[0].kind(), shards[0].device()));
        tp.recv(&shard, rank)?;
        shards.push(shard);
    }
    Ok(Some(Tensor::cat(&shards, dim as i64)))
}
