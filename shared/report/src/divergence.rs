//! The error of a step whose loss or gradient is not finite.

use crate::StepStats;
use anyhow::{Result, ensure};

/// Refuses a step whose loss or gradient is not finite: nothing after it could be used. `first`:
/// this run has made no update yet.
pub(crate) fn check(stats: &StepStats, first: bool) -> Result<()> {
    let StepStats { step, loss, grad_norm, lr, .. } = *stats;
    let is_finite = loss.is_finite() && grad_norm.is_finite();
    ensure!(
        is_finite || !first,
        "in step {step}, before any update of this run, the loss is {loss} and the gradient's norm \
             {grad_norm}: look for NaN or infinity in the weights that it starts from"
    );
    ensure!(
        is_finite,
        "the run diverged: in step {step} the loss is {loss} and the gradient's norm {grad_norm}, at a \
             learning rate of {lr:.1e}; try a lower --lr, a longer --warmup, or a lower --clip (0 \
             turns it off)"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CommBytes, Options, Reporter};

    fn stats(step: usize, loss: f64) -> StepStats {
        StepStats { step, loss, grad_norm: 1.5, lr: 1e-3, comm_bytes: CommBytes::default() }
    }

    #[test]
    fn a_step_whose_loss_or_gradient_is_no_number_ends_the_run_on_every_rank() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        for (loss, grad_norm) in [(nan, 1.0), (1.0, nan), (inf, 1.0), (1.0, inf)] {
            let dir = tempfile::tempdir().unwrap();
            for leader in [false, true] {
                let path = dir.path().join("m.jsonl");
                let metrics = Some(path.clone());
                let options = Options { leader, steps: 9, metrics, ..Options::default() };
                let mut reporter = Reporter::new(options).unwrap();
                reporter.step(&stats(1, 2.0)).unwrap();
                let diverged = StepStats { grad_norm, ..stats(2, loss) };
                let error = reporter.step(&diverged).unwrap_err().to_string();
                let expected = format!(
                    "the run diverged: in step 2 the loss is {loss} and the gradient's norm {grad_norm}, \
                     at a learning rate of 1.0e-3; try a lower --lr, a longer --warmup, or a lower \
                     --clip (0 turns it off)"
                );
                assert_eq!(error, expected);
                let lines = std::fs::read_to_string(path).unwrap_or_default().lines().count();
                assert_eq!(lines, usize::from(leader), "nothing is written of that step");
            }
        }
    }

    #[test]
    fn weights_that_are_no_numbers_are_not_blamed_on_the_learning_rate() {
        let mut reporter = Reporter::new(Options { start: 4, ..Options::default() }).unwrap();
        let error = reporter.step(&stats(5, f64::NAN)).unwrap_err().to_string();
        let expected = "in step 5, before any update of this run, the loss is NaN and the gradient's norm \
                        1.5: look for NaN or infinity in the weights that it starts from";
        assert_eq!(error, expected);
    }
}
