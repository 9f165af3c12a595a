//! What the lessons' tests share: worlds of ranks, a small model, and comparisons that say which
//! number is wrong, on which rank, and what it should be.
//!
//! A test of a lesson compares a rank with one device, never with another rank: then its message
//! names a number.

mod check;
pub mod exercises;
mod model;
mod one_device;
mod runs;
mod worlds;

pub use check::{
    Expected, check, check_bits, check_bytes, check_number, check_number_within, check_within,
};
pub use model::{Model, micro_batches, numbers, scratch, tokens};
pub use one_device::one_device;
pub use runs::{
    Held, Update, Updates, check_all, check_grads, check_losses, check_norms, check_weights,
};
pub use worlds::{
    PATIENCE, alone, check_error_is_passed_on, place, start, world, world_error, world_of,
};
