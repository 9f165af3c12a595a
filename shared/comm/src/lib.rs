//! Ranks and how they talk: worlds, groups, collectives.

mod abort;
mod layout;

pub use abort::Abort;
pub use layout::{Coords, Layout, Members};
