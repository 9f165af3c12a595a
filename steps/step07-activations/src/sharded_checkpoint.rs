//! Checkpoints that any layout can resume from.
//!
//! Ranks that differ only in dp and cp hold the same parameters, so they share the writing: each
//! one writes every n-th of them, with its two Adam moments and a note of its place in the whole. A
//! rank that resumes asks for its own boxes of the tensors, and gets them from whichever files hold
//! pieces of them.

use anyhow::{Context, Result, ensure};
use checkpoint::saved::{CheckpointReader, CheckpointWriter, Piece, Progress, delete_older};
use cli::tell_changes;
use comm::Mesh;
use data::Dataset;
use std::path::Path;
use tch::Tensor;

use crate::config::Config;
use crate::layers::Parameter;
use crate::optimizer::{Optimizer, learning_rate};

/// Writes a checkpoint of a run with this `progress` to `dir`. A collective. When it returns, the
/// checkpoint is complete; until then the previous one counts as the newest.
pub fn save(
    dir: &Path,
    progress: Progress,
    parameters: &[Parameter],
    optimizer: &Optimizer,
    config: &Config,
    mesh: &Mesh,
) -> Result<()> {
    let step = progress.step;
    let writer = CheckpointWriter::new(dir, step);
    if mesh.is_leader() {
        writer.begin()?;
    }
    mesh.untimed.barrier()?; // now the directory is there
    let mut all: Vec<_> = parameters.iter().zip(optimizer.moments(parameters)).collect();
    all.retain(|(parameter, _)| parameter.is_first(mesh.coords)); // others leave it to the first
    let share = all.into_iter().skip(mesh.dp_cp.rank()).step_by(mesh.dp_cp.size());
    let tensors: Vec<_> =
        share.flat_map(|(parameter, moments)| pieces(parameter, moments, mesh)).collect();
    let file = (!tensors.is_empty()).then(|| writer.write(mesh.rank, tensors)).transpose()?;
    let files = mesh.gather(file)?; // a file is listed here once it has been written
    if mesh.is_leader() {
        writer.commit(&config.model, progress, files)?;
        if let Some(keep) = config.checkpoints.save_keep {
            delete_older(dir, step, keep)?;
        }
    }
    Ok(mesh.untimed.barrier()?) // else a rank that trains on could time out while another writes
}

/// Restores weights and optimiser from the newest checkpoint in `dir`, and returns its number of
/// updates. A collective. Nothing is overwritten before every file has been found intact.
pub fn resume(
    dir: &Path,
    parameters: &[Parameter],
    optimizer: &mut Optimizer,
    config: &Config,
    text: &Dataset,
    mesh: &Mesh,
) -> Result<usize> {
    // Nodes may not agree on which checkpoint is the newest: rank 0 decides.
    let first = mesh.is_leader().then(|| CheckpointReader::open(dir)).transpose()?;
    let chosen = Tensor::from(first.as_ref().map_or(0, |first| first.progress().step as i64));
    mesh.untimed.broadcast(&chosen, 0)?;
    let step = chosen.int64_value(&[]) as usize;
    let reader = match first {
        Some(first) => first,
        None => CheckpointReader::open_step(dir, step)
            .context("rank 0 resumes from one that is not here")?,
    };
    let (then, now) = (reader.progress().samples, text.samples());
    ensure!(then == now, "the data had {then} samples and now has {now}: it is not the same");
    reader.verify(mesh.rank, mesh.world.size())?;
    mesh.untimed.barrier()?; // the other ranks' files are intact too
    for (parameter, moments) in parameters.iter().zip(optimizer.moments(parameters)) {
        for (piece, mut tensor) in pieces(parameter, moments, mesh) {
            tensor.copy_(&reader.read(&piece)?);
        }
    }
    optimizer.set_step(step);
    if mesh.is_leader() {
        tell_changes(config, reader.progress(), |train| learning_rate(train, step))?;
    }
    mesh.untimed.barrier()?; // else a rank that trains on could time out while another reads
    Ok(step)
}

/// What is saved of a parameter: itself and its two moments, each with a note of its
/// place in the whole.
fn pieces(
    parameter: &Parameter,
    [exp_avg, exp_avg_sq]: [Tensor; 2],
    mesh: &Mesh,
) -> [(Piece, Tensor); 3] {
    let Parameter { name, tensor, global_shape, tp, .. } = parameter;
    let piece = |suffix: &str| Piece {
        name: format!("{name}{suffix}"),
        global_shape: global_shape.clone(),
        region: tp.region(global_shape, mesh.coords.tp, mesh.layout.tp),
    };
    [(piece(""), tensor.detach()), (piece(".exp_avg"), exp_avg), (piece(".exp_avg_sq"), exp_avg_sq)]
}
