//! A run on paper: what each rank will hold and send, and how long a step may take. Counted from
//! the settings alone, so that a plan for a world of any size takes no time.

mod links;
mod page;
mod plan;
mod predict;
mod schedule;
mod traffic;

pub use page::{page, print};
pub use plan::{Memory, Plan};
pub use predict::{predict, rates};
pub use schedule::pass;
