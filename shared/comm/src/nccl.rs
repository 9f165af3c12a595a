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
//! * [`Driver`] is what this needs of a GPU and of NCCL; [`Cuda`] is the real one, and tests have
//!   one that records its calls.
//! * [`Channel`]: one communicator and its stream; keeps the order drawn above.
//! * [`Nccl`]: the operations of one group.
//! * [`Operation`](pending::Operation): keeps its tensors alive until the GPU is done with them.
//! * [`Watch`]: notices that operations have ended, and ends those that never do.

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

pub(crate) use cuda::Cuda;
pub(crate) use driver::Driver;
pub(crate) use group::{Connect, Nccl};
pub(crate) use watch::Watch;
