//! What a person sees while a run goes on.

use crate::pace::{self, Pace};
use crate::validation::suffix;
use crate::{Options, StepStats, Summary, Validation};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt;
use std::io::Write;
use std::time::{Duration, Instant};

pub(crate) struct Display {
    shown: Shown,
    steps: usize,
    tokens_per_step: usize,
    pace: Pace,
    /// Whether a bar has lines beside it.
    beside: bool,
    /// The line of the last step, if it has not been printed.
    pending: Option<String>,
}

enum Shown {
    /// On a terminal that can redraw a line.
    Bar(ProgressBar),
    /// If standard output is a file, a pipe or a plainer terminal (TERM is dumb, or not set).
    Lines,
    /// On every rank but the leader.
    Nothing,
}

impl Display {
    pub fn new(options: &Options) -> Result<Self> {
        let &Options { steps, tokens_per_step, log_every, .. } = options;
        Ok(Self {
            shown: Shown::new(options)?,
            steps,
            tokens_per_step,
            pace: Pace::new(steps, log_every, Instant::now()),
            beside: log_every.is_some(),
            pending: None,
        })
    }

    pub fn step(
        &mut self,
        stats: &StepStats,
        validation: Option<Validation>,
        tokens_per_second: f64,
    ) -> Result<()> {
        if matches!(self.shown, Shown::Nothing) {
            return Ok(());
        }
        let now = Instant::now();
        // No validation loss goes unseen.
        let due = self.pace.is_due(stats.step, now) || validation.is_some();
        let line = self.line(stats, tokens_per_second, self.pace.left(stats.step, now))
            + &suffix(validation);
        if let Shown::Bar(bar) = &self.shown {
            let (speed, loss) = (thousands(tokens_per_second), stats.loss);
            let tokens = thousands((stats.step * self.tokens_per_step) as f64);
            bar.set_style(ProgressStyle::with_template(
                "{bar:24.cyan/blue} step {pos}/{len}  {msg}  {eta} left",
            )?);
            let validation = suffix(validation);
            bar.set_message(format!(
                "loss {loss:.4}{validation}  {tokens} tokens  {speed} tokens/s"
            ));
            bar.set_position(stats.step as u64);
            if due && self.beside {
                bar.suspend(|| print_line(&line))?;
            }
            return Ok(());
        }
        self.pending = None;
        if due {
            return print_line(&line);
        }
        self.pending = Some(line);
        Ok(())
    }

    fn line(&self, stats: &StepStats, tokens_per_second: f64, left: Duration) -> String {
        let StepStats { step, loss, grad_norm, lr, .. } = stats;
        let width = self.steps.to_string().len();
        let tokens = thousands((step * self.tokens_per_step) as f64);
        let (speed, left) = (thousands(tokens_per_second), pace::shown(left));
        format!(
            "step {step:>width$}/{}  loss {loss:.4}  grad_norm {grad_norm:.2}  lr {lr:.1e}  \
             {tokens} tokens  {speed} tokens/s  {left} left",
            self.steps
        )
    }

    pub fn finish(&mut self, summary: &Summary) -> Result<()> {
        match &self.shown {
            Shown::Nothing => return Ok(()),
            Shown::Bar(bar) => bar.finish_and_clear(),
            Shown::Lines => {}
        }
        // Of a run that has ended early.
        self.pending.take().map_or(Ok(()), |line| print_line(&line))?;
        print_line(&summary.to_string())
    }
}

impl Shown {
    fn new(options: &Options) -> Result<Self> {
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
}

/// Unlike `println!`, a closed pipe is an error and not a panic.
fn print_line(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
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
        let options = Options { steps: 100, tokens_per_step: 1024, ..Options::default() };
        let display = Display::new(&options).unwrap();
        assert_eq!(
            display.line(&stats, 12344.6, Duration::from_secs(75)),
            "step  12/100  loss 2.3456  grad_norm 0.98  lr 2.9e-3  12,288 tokens  12,345 tokens/s  \
             75 s left"
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
