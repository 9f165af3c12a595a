//! Checkpoints that any layout can go on from.
//!
//! Each rank of the first replica writes the parameters that it holds, with their two Adam moments and
//! a note of where in the whole they stand. A rank that resumes asks for its own shard by name and
//! range, and gets it from whichever files hold pieces of it.

use anyhow::{Context, Result, ensure};
use checkpoint::saved::{Draft, Held, RankFile, Saved};
use cli::Config;
use comm::Mesh;
use std::path::Path;
use tch::Tensor;

use crate::layers::Parameter;
use crate::optimizer::Optimizer;

/// Writes the checkpoint of `step` updates to `dir`. A collective; when it returns, the checkpoint is
/// there, and until then the one before is the newest.
pub fn save(
    dir: &Path,
    step: usize,
    parameters: &[Parameter],
    optimizer: &Optimizer,
    config: &Config,
    mesh: &Mesh,
) -> Result<()> {
    let draft = Draft::new(dir, step);
    if mesh.is_leader() {
        draft.begin()?;
    }
    mesh.patient.barrier()?; // now the directory is there
    let mut file = vec![];
    if mesh.coords.dp == 0 && mesh.coords.cp == 0 {
        let mut tensors = vec![];
        for (parameter, moments) in parameters.iter().zip(optimizer.moments(parameters)) {
            // The first stage writes tied embeddings.
            if !parameter.tied || mesh.coords.pp == 0 {
                tensors.extend(kept(parameter, moments));
            }
        }
        file = serde_json::to_vec(&draft.write(mesh.rank, tensors)?)?;
    }
    let files = mesh.gather(file)?; // every rank has written what it gathers here
    if mesh.is_leader() {
        let written = files.iter().filter(|bytes| !bytes.is_empty());
        let files = written.map(|bytes| serde_json::from_slice(bytes));
        let files = files.collect::<Result<Vec<RankFile>, _>>().context("a rank's file")?;
        draft.commit(&config.model, config.progress(step), files)?;
    }
    Ok(mesh.patient.barrier()?) // nobody trains on and waits there for those who still write
}

/// Puts weights and optimiser where the newest checkpoint in `dir` left them, and returns how many
/// updates that were. A collective; nothing changes before every file has been found unchanged.
pub fn resume(
    dir: &Path,
    parameters: &[Parameter],
    optimizer: &mut Optimizer,
    config: &Config,
    mesh: &Mesh,
) -> Result<usize> {
    // What is the newest, nodes may see differently: rank 0 says which it is.
    let first = mesh.is_leader().then(|| Saved::open(dir)).transpose()?;
    let chosen = Tensor::from(first.as_ref().map_or(0, |saved| saved.progress().step as i64));
    mesh.patient.broadcast(&chosen, 0)?;
    let step = chosen.int64_value(&[]) as usize;
    let saved = match first {
        Some(saved) => saved,
        None => Saved::open_step(dir, step).context("rank 0 goes on from one that is not here")?,
    };
    let (then, now) = (saved.progress().samples, config.progress(0).samples);
    ensure!(then == now, "the data had {then} samples, and now have {now}: they are others");
    saved.verify(mesh.rank, mesh.world.size())?;
    mesh.patient.barrier()?; // the other files are unchanged too
    for (parameter, moments) in parameters.iter().zip(optimizer.moments(parameters)) {
        for (held, mut tensor) in kept(parameter, moments) {
            tensor.copy_(&saved.read(&held)?);
        }
    }
    optimizer.set_step(step);
    mesh.patient.barrier()?; // nobody trains on and waits there for those who still read
    Ok(step)
}

/// What is kept of a parameter: itself and its two moments, each with a note of what this rank holds of
/// the whole.
fn kept(parameter: &Parameter, [exp_avg, exp_avg_sq]: [Tensor; 2]) -> [(Held, Tensor); 3] {
    let Parameter { name, shape, split, range, .. } = parameter;
    let held = |suffix: &str| Held {
        name: format!("{name}{suffix}"),
        shape: shape.clone(),
        split: split.map(|dim| (dim, range.clone())),
    };
    [
        (held(""), parameter.tensor.detach()),
        (held(".exp_avg"), exp_avg),
        (held(".exp_avg_sq"), exp_avg_sq),
    ]
}
