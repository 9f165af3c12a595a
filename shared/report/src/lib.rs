//! What a run says about itself: a progress bar or lines, a metrics file, a loss curve, events for
//! TensorBoard, a trace of every rank and a chart drawn from it, and what each rank holds in memory
//! over a step. No tensors here, so that the crate that moves bytes can depend on it.

#![warn(missing_docs)]

mod chart;
mod chrome;
mod clock;
mod comm_bytes;
mod curve;
mod display;
mod divergence;
mod event;
mod measure;
pub mod memory;
mod metrics;
mod pace;
mod panics;
mod pass;
mod picture;
pub mod plot;
mod reporter;
mod summary;
mod tensorboard;
mod trace;
mod validation;
mod whole;

pub use chart::{Bubble, Chart};
pub use chrome::write_trace;
pub use clock::{Clock, Mark};
pub use comm_bytes::CommBytes;
pub use curve::Curve;
pub use display::thousands;
pub use event::Track;
pub use measure::{flops_per_token, mfu, peak_memory_bytes, strict_flops_per_token};
pub use memory::{MemoryLine, write_memory};
pub use metrics::{StepStats, metrics_up_to};
pub use panics::{Panic, catch, without_cpp_trace};
pub use pass::Pass;
pub use reporter::{Options, Reporter};
pub use summary::Summary;
pub use trace::{Span, Trace};
pub use validation::Validation;
pub use whole::{is_special, write_whole};
