//! What a run says about itself: a progress bar or one line a step, a metrics file, a trace of
//! every rank and a chart drawn from it. No tensors here, so that the crate that moves bytes
//! can depend on it.

#![warn(missing_docs)]

mod chart;
mod chrome;
mod clock;
mod comm_bytes;
mod display;
mod divergence;
mod event;
mod measure;
mod metrics;
mod panics;
mod pass;
mod reporter;
mod summary;
mod trace;
mod validation;
mod whole;

pub use chart::{Bubble, Chart};
pub use chrome::write_trace;
pub use clock::{Clock, Mark};
pub use comm_bytes::CommBytes;
pub use display::thousands;
pub use event::Track;
pub use measure::{flops_per_token, mfu, peak_memory_bytes, strict_flops_per_token};
pub use metrics::{StepStats, metrics_up_to};
pub use panics::{Panic, catch, without_cpp_trace};
pub use pass::Pass;
pub use reporter::{Options, Reporter};
pub use summary::Summary;
pub use trace::{Span, Trace};
pub use validation::Validation;
pub use whole::is_special;
