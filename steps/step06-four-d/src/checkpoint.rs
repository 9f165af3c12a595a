//! Checkpoints that any layout can go on from.
//!
//! Each rank of the first replica writes the parameters that it holds, with their two Adam moments and
//! a note of which part of the whole they are. A rank that resumes asks for its own part by name and
//! range, and gets it from whichever files hold pieces of it.

use ::checkpoint::saved::{Draft, Held, Part, Saved};
use anyhow::{Context, Result, ensure};
use cli::Config;
use comm::Mesh;
use std::path::Path;
use tch::Tensor;

use crate::layers::Parameter;
use crate::optimizer::Optimizer;

/// Weight, first and second moment: what is kept of each parameter, and how it is called.
const KEPT: [&str; 3] = ["", ".exp_avg", ".exp_avg_sq"];

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
    let mut part = vec![];
    if mesh.coords.dp == 0 && mesh.coords.cp == 0 {
        let (mut held, mut tensors) = (vec![], vec![]);
        for (parameter, moments) in parameters.iter().zip(optimizer.moments(parameters)) {
            // The first stage writes tied embeddings.
            if parameter.tied && mesh.coords.pp > 0 {
                continue;
            }
            let [exp_avg, exp_avg_sq] = moments;
            for (what, tensor) in KEPT.iter().zip([&parameter.tensor, &exp_avg, &exp_avg_sq]) {
                held.push(part_of(parameter, what));
                tensors.push(tensor.detach());
            }
        }
        part = serde_json::to_vec(&draft.write(mesh.rank, held, tensors)?)?;
    }
    let parts = mesh.gather(part)?; // every rank has written what it gathers here
    if mesh.is_leader() {
        let written = parts.iter().filter(|bytes| !bytes.is_empty());
        let parts = written.map(|bytes| serde_json::from_slice(bytes));
        let parts = parts.collect::<Result<Vec<Part>, _>>().context("a rank's part")?;
        draft.commit(&config.model, config.progress(step), parts)?;
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
        let [exp_avg, exp_avg_sq] = moments;
        for (what, tensor) in KEPT.iter().zip([&parameter.tensor, &exp_avg, &exp_avg_sq]) {
            let read: Tensor = saved.read(&part_of(parameter, what))?;
            tensor.detach().copy_(&read);
        }
    }
    optimizer.set_step(step);
    mesh.patient.barrier()?; // nobody trains on and waits there for those who still read
    Ok(step)
}

/// The part of a parameter, or of one of its moments, that this rank holds.
fn part_of(parameter: &Parameter, what: &str) -> Held {
    let Parameter { name, shape, split, range, .. } = parameter;
    Held {
        name: format!("{name}{what}"),
        shape: shape.clone(),
        split: split.map(|dim| (dim as usize, range.clone())),
    }
}
