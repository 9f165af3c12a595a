//! The harness of the parity suite: runs a step in some layout, keeps everything it computed, and
//! compares it with what another run computed.

mod compare;
mod record;
pub mod recorder;
mod steps;
mod whole;

pub use compare::{Bound, compare};
pub use record::{
    LocalParameter, Place, Record, TELL, TRAINING, Tensors, Training, record, record_with,
    train_config, train_with,
};
pub use steps::{Ready, Step, parse};
pub use whole::whole;
