//! How the processes of a world find each other, and how they hear that it is over.
//!
//! Rank 0 is the server: it listens. Every other rank is a client: it connects, proves that it
//! knows the run's secret, and says where it can be reached. When all have come, rank 0 sends
//! everyone the list. The connections stay open as control lines (see [`Control`]).

mod client;
mod control;
mod join;
mod server;
mod wire;

pub(crate) use control::{Control, WORD};
pub(crate) use join::{Join, World};

impl Join {
    /// Meets the others. Rank 0 calls `listening` with its port once ranks can come.
    ///
    /// # Errors
    /// One sentence: ranks that never came (by coordinates), nobody who listens, a refusal and why,
    /// or another rank's failure.
    pub fn join(self, listening: impl FnOnce(u16)) -> anyhow::Result<World> {
        match self.rank {
            0 => server::host(self, listening),
            _ => client::connect(self),
        }
    }
}
