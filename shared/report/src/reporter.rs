//! Times the steps, and hands them to the display and the metrics file.

use crate::display::Display;
use crate::metrics::{Line, MetricsFile};
use crate::{StepStats, Summary, divergence, mfu, peak_memory_bytes};
use anyhow::Result;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub struct Options {
    /// One rank of the world shows the run and writes its metrics.
    pub leader: bool,
    /// Optimiser steps of the whole run.
    pub steps: usize,
    /// Steps that an earlier run had done, where this one resumes it; 0 for a fresh run.
    pub start: usize,
    /// Target tokens of one global batch.
    pub tokens_per_step: usize,
    /// See [`crate::flops_per_token`].
    pub flops_per_token: f64,
    /// See [`crate::strict_flops_per_token`].
    pub strict_flops_per_token: f64,
    /// Operations per second of all devices together, where known.
    pub peak_flops: Option<f64>,
    /// Returns the most bytes that this rank has held at one time, if known; called on its thread.
    pub peak_memory: fn() -> Option<u64>,
    /// Where to write one JSON object per step.
    pub metrics: Option<PathBuf>,
}

impl Default for Options {
    /// Zeros and nothing, and memory as the system counts it for this process.
    fn default() -> Self {
        Self {
            leader: false,
            steps: 0,
            start: 0,
            tokens_per_step: 0,
            flops_per_token: 0.0,
            strict_flops_per_token: 0.0,
            peak_flops: None,
            peak_memory: peak_memory_bytes,
            metrics: None,
        }
    }
}

/// One per rank, made just before the first step: the first step is timed from here.
pub struct Reporter {
    options: Options,
    display: Display,
    metrics: Option<MetricsFile>,
    last: Instant,
    durations: Vec<Duration>,
    losses: Option<(f64, f64)>,
    val_loss: Option<f64>,
}

impl Reporter {
    /// # Errors
    /// If the metrics file cannot be created.
    pub fn new(options: Options) -> Result<Self> {
        let metrics = match &options.metrics {
            Some(path) if options.leader => Some(MetricsFile::create(path, options.start)?),
            _ => None,
        };
        Ok(Self {
            display: Display::new(options.leader, options.steps, options.start)?,
            metrics,
            last: Instant::now(),
            durations: Vec::new(),
            losses: None,
            val_loss: None,
            options,
        })
    }

    /// Computes the validation loss, which is shown with the next [`Reporter::step`], or at the end
    /// if there is none.
    pub fn validate(&mut self, loss: impl FnOnce() -> Result<f64>) -> Result<()> {
        self.val_loss = Some(self.untimed(loss)?);
        Ok(())
    }

    /// Does `work` that belongs to no step: its time is not counted in theirs.
    pub fn untimed<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = work()?;
        self.last += start.elapsed();
        Ok(done)
    }

    /// Called once after each optimiser step; the time since the call before is that step's.
    ///
    /// # Errors
    /// If loss or gradient are no longer finite: nothing after it could be used, and every rank
    /// sees it, since all have the same two numbers. Or if the step cannot be shown or written.
    pub fn step(&mut self, stats: &StepStats) -> Result<()> {
        divergence::check(stats, self.losses.is_none())?;
        let duration = self.last.elapsed();
        self.last += duration;
        self.durations.push(duration);
        self.losses = Some((self.losses.map_or(stats.loss, |(first, _)| first), stats.loss));

        let tokens_per_second = self.options.tokens_per_step as f64 / duration.as_secs_f64();
        let val_loss = self.val_loss.take();
        self.display.step(stats, val_loss, self.options.steps, tokens_per_second)?;
        let (mfu, mfu_strict) = utilisation(&self.options, tokens_per_second).unzip();
        if let Some(file) = &mut self.metrics {
            file.write(&Line {
                step: stats.step,
                loss: stats.loss,
                grad_norm: stats.grad_norm,
                lr: stats.lr,
                tokens: (stats.step * self.options.tokens_per_step) as u64,
                tokens_per_second,
                mfu,
                comm_bytes: stats.comm_bytes,
                peak_memory_bytes: (self.options.peak_memory)(),
                mfu_strict,
                val_loss,
            })?;
        }
        Ok(())
    }

    /// Ends the display with one line that sums the run up.
    pub fn finish(self) -> Result<Summary> {
        let late = &self.durations[self.durations.len() / 2..];
        let tokens = (late.len() * self.options.tokens_per_step) as f64;
        let seconds: f64 = late.iter().map(Duration::as_secs_f64).sum();
        let tokens_per_second = if late.is_empty() { 0.0 } else { tokens / seconds };
        let (mfu, mfu_strict) = utilisation(&self.options, tokens_per_second).unzip();
        let summary = Summary {
            steps: self.durations.len(),
            seconds: self.durations.iter().map(Duration::as_secs_f64).sum(),
            losses: self.losses,
            val_loss: self.val_loss,
            tokens_per_second,
            mfu,
            mfu_strict,
            peak_memory_bytes: (self.options.peak_memory)(),
        };
        self.display.finish(&summary)?;
        Ok(summary)
    }
}

/// In the usual count and in the strict one; `None` if no peak is known.
fn utilisation(options: &Options, tokens_per_second: f64) -> Option<(f64, f64)> {
    options.peak_flops.map(|peak| {
        let of_peak = |flops_per_token| mfu(tokens_per_second, flops_per_token, peak);
        (of_peak(options.flops_per_token), of_peak(options.strict_flops_per_token))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CommBytes;

    fn stats(step: usize, loss: f64) -> StepStats {
        let comm_bytes = CommBytes { dp: 7, ..Default::default() };
        StepStats { step, loss, grad_norm: 1.5, lr: 1e-3, comm_bytes }
    }

    #[test]
    fn the_leader_alone_writes_metrics() {
        let dir = tempfile::tempdir().unwrap();
        for leader in [false, true] {
            let path = dir.path().join(format!("{leader}.jsonl"));
            let metrics = Some(path.clone());
            let peak_flops = Some(1e12);
            let options = Options {
                leader,
                steps: 2,
                tokens_per_step: 64,
                flops_per_token: 1e3,
                strict_flops_per_token: 750.0,
                peak_flops,
                peak_memory: || Some(12_345),
                metrics,
                ..Options::default()
            };
            let mut reporter = Reporter::new(options).unwrap();
            reporter.step(&stats(1, 2.0)).unwrap();
            reporter.step(&stats(2, 1.0)).unwrap();
            let summary = reporter.finish().unwrap();
            assert_eq!((summary.steps, summary.losses), (2, Some((2.0, 1.0))));
            assert_eq!(summary.mfu, Some(mfu(summary.tokens_per_second, 1e3, 1e12)));
            assert_eq!(summary.mfu_strict, Some(mfu(summary.tokens_per_second, 750.0, 1e12)));
            assert_eq!(summary.peak_memory_bytes, Some(12_345));
            assert_eq!(path.exists(), leader);
            if leader {
                let text = std::fs::read_to_string(path).unwrap();
                let line: serde_json::Value =
                    serde_json::from_str(text.lines().last().unwrap()).unwrap();
                assert_eq!((&line["step"], &line["tokens"]), (&2.into(), &128.into()));
                let speed = line["tokens_per_second"].as_f64().unwrap();
                assert_eq!(line["mfu"].as_f64().unwrap(), mfu(speed, 1e3, 1e12));
                assert_eq!(line["mfu_strict"].as_f64().unwrap(), mfu(speed, 750.0, 1e12));
                assert_eq!(line["peak_memory_bytes"], 12_345);
                assert_eq!(text.lines().count(), 2);
            }
        }
    }

    #[test]
    fn the_time_of_a_validation_and_of_a_checkpoint_is_no_step_s() {
        let (start, pause) = (Instant::now(), Duration::from_millis(50));
        let mut reporter = Reporter::new(Options { steps: 1, ..Options::default() }).unwrap();
        let work = || {
            std::thread::sleep(pause);
            Ok(2.0)
        };
        reporter.validate(work).unwrap();
        reporter.untimed(work).unwrap();
        reporter.step(&stats(1, 2.0)).unwrap();
        let seconds = reporter.finish().unwrap().seconds;
        assert!(start.elapsed().as_secs_f64() - seconds >= 2.0 * pause.as_secs_f64());
    }

    #[test]
    fn a_validation_that_no_step_follows_is_shown_at_the_end() {
        let mut reporter = Reporter::new(Options::default()).unwrap();
        reporter.validate(|| Ok(2.5)).unwrap();
        assert_eq!(reporter.finish().unwrap().to_string(), "no steps  val_loss 2.5000");
    }

    #[test]
    fn a_metrics_path_that_cannot_be_made_is_named_at_once() {
        let metrics = Some("/nowhere/m.jsonl".into());
        let refused = Reporter::new(Options { leader: true, metrics, ..Options::default() });
        let error = format!("{:#}", refused.err().unwrap());
        assert!(error.starts_with("cannot write the metrics file /nowhere/m.jsonl: "), "{error}");
    }
}
