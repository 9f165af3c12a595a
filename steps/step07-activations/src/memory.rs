//! What each rank holds over a step, drawn from every allocation and free of its tensors.

use anyhow::Result;
use autograd::record_memory;
use comm::Mesh;
use report::{MemoryLine, StepStats, write_memory};
use std::path::Path;
use std::time::SystemTime;

/// Makes a step, and draws it to `path`. A collective.
pub fn drawn(
    path: &Path,
    mesh: &Mesh,
    step: impl FnOnce() -> Result<StepStats>,
) -> Result<StepStats> {
    mesh.trace.start(); // for the passes
    mesh.world.barrier()?; // all ranks begin at the same time
    let (recording, start) = (record_memory()?, SystemTime::now());
    let held = recording.held().max(0) as u64;
    let stats = step()?;
    let changes = recording.finish();
    let line = MemoryLine {
        rank: mesh.coords.to_string(),
        held,
        changes: changes.iter().map(|c| (1e3 * c.at.as_secs_f64(), c.bytes)).collect(),
        passes: mesh.trace.computed(start),
    };
    let lines = mesh.gather(Some(line))?;
    if mesh.is_leader() {
        write_memory(path, &lines)?;
    }
    mesh.untimed.barrier()?;
    Ok(stats)
}
