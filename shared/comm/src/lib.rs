//! Ranks and how they talk: worlds, groups, collectives.
//!
//! From what a step calls down to what moves bytes:
//!
//! * [`launch()`] starts a world: threads, processes that find each other by a rendezvous, or one
//!   process of a world that another program started. Every rank gets a [`Mesh`], its groups along
//!   each dimension.
//! * [`Group`] checks a call and picks the way: a lane and the CPU backend, or NCCL for tensors on GPUs.
//! * A lane runs operations one after the other, on the caller's thread or one of its own; [`Work`]
//!   is one in progress.
//! * The CPU backend sees tensors as bytes, and a ring makes collectives of exchanges with two neighbours.
//! * A [`transport::Transport`] is one exchange: through shared memory, or through sockets.
//! * [`Abort`] says why the run is over. Every wait checks it, so none outlives a failure.
//!
//! Threads besides the ranks' own: one that waits for signals; one for each lane that ever had work queued; with sockets, one
//! that accepts connections and one for each connection that is being authenticated; for the
//! rendezvous, one that sends heartbeats, one that reads each control line and, on rank 0, one that
//! admits ranks; with a GPU, one that checks its work and one that checks for timeouts. The only
//! locks held while a rank waits for another are those of the connections in use, and that of a
//! communicator that is being made.

mod abort;
mod backend;
mod cpu;
mod error;
mod group;
mod lane;
mod launch;
mod layout;
mod memory;
mod mesh;
mod nccl;
mod reduce;
mod rendezvous;
mod ring;
mod signals;
mod spec;
mod sync;
mod threads;
pub mod transport;

pub use abort::Abort;
pub use backend::all_reduce_bytes;
pub use error::{CommError, Result};
pub use group::Group;
pub use lane::Work;
pub use launch::{
    EnvWorld, Gpu, Launch, Launcher, end_process, in_one_sentence, launch, settle_for_gpus,
};
pub use layout::{Coords, Layout, Members};
pub use mesh::Mesh;
pub use reduce::Op;
pub use signals::{Signals, Stopped};
pub use spec::GroupSpec;
