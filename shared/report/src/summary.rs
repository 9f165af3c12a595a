//! A finished run in one line.

use crate::Validation;
use crate::display::thousands;
use crate::validation::suffix;
use std::fmt;

/// A run in one line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Steps of this run; those of a run that it resumed are not counted.
    pub steps: usize,
    /// Of all of them together.
    pub seconds: f64,
    /// Loss of the first step and of the last; `None` if there was no step.
    pub losses: Option<(f64, f64)>,
    /// The loss on held-out text that was computed after the last step.
    pub validation: Option<Validation>,
    /// Mean over the last half of the steps, which leaves out the warm-up of caches and allocators.
    pub tokens_per_second: f64,
    /// From `tokens_per_second`, in the usual count ([`crate::flops_per_token`]).
    pub mfu: Option<f64>,
    /// The same in the strict count ([`crate::strict_flops_per_token`]).
    pub mfu_strict: Option<f64>,
    /// The most that this rank has held at one time.
    pub peak_memory_bytes: Option<u64>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let validation = suffix(self.validation);
        let Some((first, last)) = self.losses else {
            return write!(f, "no steps{validation}");
        };
        let plural = if self.steps == 1 { "" } else { "s" };
        write!(f, "{} step{plural} in {:.1} s", self.steps, self.seconds)?;
        write!(f, "  loss {first:.4} -> {last:.4}{validation}")?;
        write!(f, "  {} tokens/s over the last half", thousands(self.tokens_per_second))?;
        if let Some(mfu) = self.mfu {
            write!(f, "  MFU {:.1}%", 100.0 * mfu)?;
        }
        if let Some(mfu) = self.mfu_strict {
            write!(f, " ({:.1}% strict)", 100.0 * mfu)?;
        }
        if let Some(bytes) = self.peak_memory_bytes {
            write!(f, "  peak memory {} MiB", thousands(bytes as f64 / f64::from(1 << 20)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_one_line() {
        let summary = Summary {
            steps: 100,
            seconds: 23.44,
            losses: Some((5.5432, 2.3456)),
            validation: None,
            tokens_per_second: 12345.0,
            mfu: Some(0.4567),
            mfu_strict: Some(0.4312),
            peak_memory_bytes: Some(512 << 20),
        };
        assert_eq!(
            summary.to_string(),
            "100 steps in 23.4 s  loss 5.5432 -> 2.3456  12,345 tokens/s over the last half  \
             MFU 45.7% (43.1% strict)  peak memory 512 MiB"
        );
        // Where no peak is known.
        let text = Summary { mfu: None, mfu_strict: None, ..summary }.to_string();
        assert!(text.ends_with("over the last half  peak memory 512 MiB"), "{text}");
    }
}
