//! The loss on held-out text.

use std::fmt;

/// A mean over the tokens of held-out samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validation {
    /// Mean cross-entropy per token, in nats.
    pub loss: f64,
    /// How many samples that mean is over: fewer than were asked for where there are no more.
    pub samples: usize,
}

impl fmt::Display for Validation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { loss, samples } = self;
        let plural = if *samples == 1 { "" } else { "s" };
        write!(f, "val_loss {loss:.4} over {samples} sample{plural}")
    }
}

/// What stands behind the other figures of a line, where there is a validation.
pub(crate) fn suffix(validation: Option<Validation>) -> String {
    validation.map_or(String::new(), |validation| format!("  {validation}"))
}
