//! A run on paper: what each rank will hold and send, and how long a step may take. Counted from
//! the settings and from what the step tells of its trainer, so that a plan for a world of any size
//! takes no time.

#![warn(missing_docs)]

mod activations;
mod links;
mod page;
mod plan;
mod predict;
mod run;
mod schedule;
mod traffic;

pub use page::{page, print};
pub use plan::{Memory, Plan, Trainer};
pub use predict::{Step, predict, rates};
pub use run::{Activations, Recompute, Run};
pub use schedule::walk;
