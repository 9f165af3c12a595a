//! Tensors in the memory of GPUs, moved by NCCL.
//!
//! A group whose ranks have a GPU each moves tensors on it through NCCL, and CPU tensors through
//! rings as ever. An operation is then *queued*, on a stream beside the one that computes, and the
//! host goes on:
//!
//! ```text
//! compute   ──make x──┬───────── other work ─────────┬──use x──
//!                     │ready                         │wait()
//! side                └──────── all_reduce x ────────┘done
//! ```
//!
//! Each file uses only those above it:
//!
//! 1. `driver`: what this needs of a GPU and of NCCL. Tests have one that records its calls.
//! 2. `ffi`: NCCL's own functions.
//! 3. `times`: when a GPU reached a point in its queues, for traces.
//! 4. `cuda`: the driver of real GPUs.
//! 5. `pending`: one operation, which keeps its tensors alive until the GPU is done with them.
//! 6. `watch`: notices that operations have ended, and ends those that never do.
//! 7. `channel`: one communicator and its stream; keeps the order drawn above.
//! 8. `group`: a group's communicators, and when they are made.
//! 9. `operations`: the operations of one group.
//!
//! Each rank has two threads here: one checks its GPU's work, and one checks for timeouts.

#![warn(missing_docs)]

mod channel;
mod cuda;
mod driver;
mod ffi;
mod group;
mod operations;
mod pending;
#[cfg(test)]
mod tests;
mod times;
mod watch;

use anyhow::Context;
use comm::backend::OnGpu;
use comm::{Abort, Connect, Cpu, GpuBackends};
use cuda::Cuda;
use driver::Driver;
use group::Nccl;
use report::Trace;
use std::sync::Arc;
use std::time::Duration;
use watch::Watch;

/// Takes GPU `ordinal` for the rank with the coordinates `rank`: what its groups move tensors with.
/// An operation that fails, or is not done within `timeout`, raises `abort`. From now on `trace`
/// takes the times of what is computed from the GPU.
///
/// # Errors
/// If the GPU cannot be used, or there are no threads to watch it.
pub fn open(
    ordinal: usize,
    rank: String,
    abort: Abort,
    timeout: Duration,
    trace: &Trace,
) -> anyhow::Result<Arc<dyn GpuBackends>> {
    let cuda = Cuda::new(ordinal).with_context(|| format!("GPU {ordinal}"))?;
    let watch = Watch::start(cuda, rank, abort, timeout)?;
    trace.set_clock(watch.driver.clock());
    Ok(Arc::new(Watched(watch)))
}

/// Makes groups that share one watch.
struct Watched<D: Driver>(Arc<Watch<D>>);

impl<D: Driver> GpuBackends for Watched<D> {
    fn make(&self, cpu: Arc<Cpu>, ahead: Connect, trace: Trace) -> comm::Result<Arc<dyn OnGpu>> {
        let nccl = Nccl::new(cpu, self.0.clone(), trace);
        nccl.connect(ahead)?;
        Ok(Arc::new(nccl))
    }
}
