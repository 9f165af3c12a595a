//! Ranks and how they talk: worlds, groups, collectives.
//!
//! From what a step calls down to what moves bytes:
//!
//! * [`launch()`] starts a world: threads, processes that find each other by a rendezvous, or one process of
//!   a world that somebody else started. Every rank gets a [`Mesh`], its groups along each dimension.
//! * [`Group`] checks a call and picks the way: a lane and the CPU backend, or NCCL for tensors on GPUs.
//! * A lane runs operations one after the other, on the caller's thread or one of its own; [`Work`] is
//!   one that is under way.
//! * The CPU backend sees tensors as bytes, and a ring makes collectives of exchanges with two neighbours.
//! * A [`transport::Transport`] is one exchange: through shared memory, or through sockets.
//! * [`Abort`] says why the run is over. Whatever waits looks at it, so no wait outlives a failure.
//!
//! Threads beside the ranks' own: one for each lane that was ever busy; over sockets one that accepts and
//! one for each connection that says its hello; of the rendezvous one that beats, one for each line that
//! listens and, on rank 0, one that keeps the door; with a GPU one that watches its work and one the clock.
//! The only locks that are held while a rank waits for another are those of the connections that it uses, and
//! of a communicator that it makes.

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
mod spec;
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
pub use spec::GroupSpec;
