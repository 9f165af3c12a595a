//! What a person sees while a run goes on.

use crate::validation::suffix;
use crate::{Options, StepStats, Summary, Validation};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt;
use std::io::Write;

pub(crate) enum Display {
    /// On a terminal that can redraw a line.
    Bar(ProgressBar),
    /// If standard output is a file, a pipe or a plainer terminal (TERM is dumb, or not set).
    Lines,
    /// On every rank but the leader.
    Nothing,
}

impl Display {
    pub fn new(options: &Options) -> Result<Self> {
        let Options { leader, steps, start, .. } = options;
        if !leader {
            return Ok(Self::Nothing);
        }
        if *start > 0 {
            print_line(&format!("goes on after step {start} of {steps}"))?;
        }
        let target = ProgressDrawTarget::stdout();
        if target.is_hidden() {
            return Ok(Self::Lines);
        }
        let bar = ProgressBar::with_draw_target(Some(*steps as u64), target);
        // The time left is known only when a step is done.
        bar.set_style(ProgressStyle::with_template("{bar:24.cyan/blue} step {pos}/{len}")?);
        // The steps before a resumed run must not count towards its speed.
        bar.set_position(*start as u64);
        bar.reset_eta();
        Ok(Self::Bar(bar))
    }

    pub fn step(
        &self,
        stats: &StepStats,
        validation: Option<Validation>,
        steps: usize,
        tokens_per_second: f64,
    ) -> Result<()> {
        let validation = suffix(validation);
        match self {
            Self::Bar(bar) => {
                let speed = thousands(tokens_per_second);
                bar.set_style(ProgressStyle::with_template(
                    "{bar:24.cyan/blue} step {pos}/{len}  {msg}  {eta} left",
                )?);
                bar.set_message(format!("loss {:.4}{validation}  {speed} tokens/s", stats.loss));
                bar.set_position(stats.step as u64);
            }
            Self::Lines => print_line(&(step_line(stats, steps, tokens_per_second) + &validation))?,
            Self::Nothing => {}
        }
        Ok(())
    }

    pub fn finish(&self, summary: &Summary) -> Result<()> {
        match self {
            Self::Nothing => return Ok(()),
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines => {}
        }
        print_line(&summary.to_string())
    }
}

/// Unlike `println!`, a closed pipe is an error and not a panic.
fn print_line(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
}

fn step_line(stats: &StepStats, steps: usize, tokens_per_second: f64) -> String {
    let StepStats { step, loss, grad_norm, lr, .. } = stats;
    let width = steps.to_string().len();
    let speed = thousands(tokens_per_second);
    format!(
        "step {step:>width$}/{steps}  loss {loss:.4}  grad_norm {grad_norm:.2}  lr {lr:.1e}  \
         {speed} tokens/s"
    )
}

/// Rounded to a whole number, with a comma between thousands.
pub fn thousands(x: impl fmt::Display) -> String {
    let digits = format!("{x:.0}");
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return digits; // inf and NaN
    }
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_aligned_line() {
        let stats = StepStats {
            step: 12,
            loss: 2.34561,
            grad_norm: 0.981,
            lr: 2.9e-3,
            comm_bytes: Default::default(),
        };
        assert_eq!(
            step_line(&stats, 100, 12344.6),
            "step  12/100  loss 2.3456  grad_norm 0.98  lr 2.9e-3  12,345 tokens/s"
        );
    }

    #[test]
    fn thousands_are_parted() {
        let cases = [(0.4, "0"), (999.0, "999"), (1000.0, "1,000"), (1234567.0, "1,234,567")];
        for (x, text) in cases {
            assert_eq!(thousands(x), text);
        }
        assert_eq!(thousands(f64::INFINITY), "inf");
    }
}
