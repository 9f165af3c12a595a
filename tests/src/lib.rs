//! The harness of the parity suite: runs a step in some layout, keeps everything it computed, and
//! compares it with what another run computed.

mod compare;
mod record;
pub mod recorder;
mod whole;

pub use compare::{Bound, compare};
pub use record::{
    LocalParameter, Place, Record, TELL, TRAINING, Tensors, Training, parse, record, record_with,
    train_with,
};
pub use whole::whole;
