//! Ranks and how they talk: worlds, groups, collectives.

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
pub use backend::sum_bytes;
pub use error::{CommError, Result};
pub use group::Group;
pub use lane::Work;
pub use launch::{EnvWorld, Gpu, Launch, Launcher, in_one_sentence, launch, settle_for_gpus};
pub use layout::{Coords, Layout, Members};
pub use mesh::Mesh;
pub use reduce::Op;
pub use spec::GroupSpec;
