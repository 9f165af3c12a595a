//! What a run says about itself: a progress bar or one line a step, a metrics file, a trace of every
//! rank and a chart drawn from it. No tensors here, so that the crate that moves bytes can depend on it.

mod chart;
mod chrome;
mod display;
mod measure;
mod metrics;
mod reporter;
mod trace;

pub use chart::{Bubble, Chart};
pub use chrome::write_trace;
pub use measure::{flops_per_token, mfu, peak_memory_bytes};
pub use metrics::{CommBytes, StepStats};
pub use reporter::{Options, Reporter, Summary};
pub use trace::{Span, Trace, Track};
