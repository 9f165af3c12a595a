//! Ranks and how they talk: worlds, groups, collectives.

mod abort;
mod backend;
mod cpu;
mod error;
mod group;
mod lane;
mod launch;
mod layout;
mod mesh;
mod reduce;
mod rendezvous;
mod ring;
pub mod transport;

pub use abort::Abort;
pub use error::{CommError, Result};
pub use group::{Group, GroupSpec};
pub use lane::Work;
pub use launch::{EnvWorld, Launch, Launcher, launch};
pub use layout::{Coords, Layout, Members};
pub use mesh::Mesh;
pub use reduce::Op;
