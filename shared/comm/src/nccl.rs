//! Tensors in the memory of GPUs, moved by NCCL.
//!
//! Beside the rings over a transport, which move CPU tensors, a group whose ranks have a GPU each can
//! move what lies on it. An operation is then *queued*, on a stream of its own beside the one that
//! computes, and the host goes on:
//!
//! ```text
//! compute   ──make x──┬───────── other work ─────────┬──use x──
//!                     │ready                         │wait()
//! side                └──────── all_reduce x ────────┘done
//! ```
//!
//! * [`Driver`] is what this asks of a GPU and of NCCL; [`Cuda`] is the real one, and tests have one
//!   that writes down what it is asked.
//! * [`Channel`]: one communicator and its stream; keeps the order drawn above.
//! * [`Nccl`]: the operations of one group.
//! * [`Operation`](pending::Operation): keeps its tensors alive until they are done with.
//! * [`Watch`]: sees operations end, and ends what never ends.

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
