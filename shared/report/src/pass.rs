//! An entry of a pipeline's schedule.

use std::fmt;

/// The pass of one micro-batch through one stage of a pipeline. Displayed as its span is called in
/// a trace: `forward 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The activations of a micro-batch, for the next stage.
    Forward(usize),
    /// The gradients of a micro-batch, for the stage before.
    Backward(usize),
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward(micro_batch) => write!(f, "forward {micro_batch}"),
            Self::Backward(micro_batch) => write!(f, "backward {micro_batch}"),
        }
    }
}
