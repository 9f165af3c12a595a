//! The harness of the parity suite: runs a step in some layout, keeps everything it computed, and
//! compares it with what another run computed.

mod compare;
mod record;

pub use compare::{Bound, compare};
pub use record::{Record, Tensors, Training, parse, record, record_with};
