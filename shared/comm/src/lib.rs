//! Ranks and how they talk: groups, collectives, meshes.
//!
//! This crate is small enough to be read from beginning to end. Each file uses only those above it,
//! so read them in this order:
//!
//! 1. `layout`: who is who. A world of dp × pp × cp × tp ranks, and the groups that it is divided into.
//! 2. `sync`: locks, waits and threads. Skim it.
//! 3. `error`: what can go wrong between ranks, each a sentence.
//! 4. `abort`: the signal that ends a run, and why. Every wait checks it, so none outlives a failure.
//! 5. `reduce`: the dtypes that travel, and how two buffers are added.
//! 6. `transport`: the one thing that all else is made of. Send to one rank while receiving from another.
//! 7. `thread_transport`: how threads do that. The receiver reads the sender's memory.
//! 8. `ring`: the collectives, made of exchanges with two neighbours. *The heart of this crate.*
//! 9. `rounds`: what takes a few short messages: to meet, and to agree on a number.
//! 10. `backend`: what a group needs of whatever moves its tensors: rings here, NCCL elsewhere.
//! 11. `memory`: a tensor seen as bytes.
//! 12. `cpu`: tensors on the CPU, handed to rings.
//! 13. `lane`: operations that run one after the other, on the caller's thread or on one of their own;
//!     `Work` is one in progress.
//! 14. `dispatch`: which lane, or which GPU, an operation goes to.
//! 15. `group`: what a step calls: `all_reduce`, `isend`, and so on.
//! 16. `shards`: its reduce-scatter and all-gather, along any dimension.
//! 17. `gather`: small things from all ranks, on one.
//! 18. `mesh`: a rank's place and its groups. This is what a step gets.
//!
//! Who starts the ranks, and how processes find each other, is in the crate `launch`; how GPUs
//! talk, in `nccl`. Both build on this one.
//!
//! Threads besides the ranks' own: one for each lane that ever had work queued. The only locks held
//! while a rank waits for another are those of the connections in use, and that of a communicator
//! that is being made.

#![warn(missing_docs)]

mod abort;
pub mod backend;
mod cpu;
mod dispatch;
mod error;
mod gather;
mod group;
mod lane;
mod layout;
mod memory;
mod mesh;
pub mod reduce;
mod ring;
mod rounds;
mod shards;
pub mod sync;
mod thread_transport;
pub mod transport;

pub use abort::Abort;
pub use cpu::Cpu;
pub use error::{ABORTED, CommError, Result};
pub use group::Group;
pub use lane::Work;
pub use layout::{Coords, GROUPS, GroupKind, GroupSpec, Layout};
pub use mesh::{Connect, GpuBackends, Interrupts, Mesh, Wiring};
pub use reduce::ReduceOp;
pub use ring::all_reduce_bytes;
pub use thread_transport::thread_transports;
