//! Times the steps, and hands them to the display and the files that a run writes.

use crate::display::Display;
use crate::metrics::{Line, MetricsFile};
use crate::picture::Picture;
use crate::tensorboard::Events;
use crate::{StepStats, Summary, Validation, divergence, mfu, peak_memory_bytes};
use anyhow::Result;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a [`Reporter`] must know of its run.
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
    /// Print every so many steps; `None`: every ten seconds, and on a terminal a bar alone.
    pub log_every: Option<usize>,
    /// Where to draw the losses, at the end.
    pub plot: Option<PathBuf>,
    /// The directory of a file for TensorBoard.
    pub tensorboard: Option<PathBuf>,
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
            log_every: None,
            plot: None,
            tensorboard: None,
        }
    }
}

/// One per rank, made just before the first step: the first step is timed from here.
pub struct Reporter {
    options: Options,
    display: Display,
    metrics: Option<MetricsFile>,
    events: Option<Events>,
    picture: Option<Picture>,
    last: Instant,
    durations: Vec<Duration>,
    losses: Option<(f64, f64)>,
    validation: Option<Validation>,
}

impl Reporter {
    /// # Errors
    /// If a file that it writes cannot be created.
    pub fn new(options: Options) -> Result<Self> {
        let (start, is_leader) = (options.start, options.leader);
        let asked = |path: &Option<PathBuf>| path.clone().filter(|_| is_leader);
        // What a run that this one continues has reached is read before its file is written.
        let picture = asked(&options.plot).map(|path| Picture::new(path, &options)).transpose()?;
        let metrics = asked(&options.metrics);
        let metrics = metrics.map(|path| MetricsFile::create(&path, start)).transpose()?;
        let events = asked(&options.tensorboard);
        let events = events.map(|dir| Events::create(&dir, start)).transpose()?;
        Ok(Self {
            display: Display::new(&options)?,
            metrics,
            events,
            picture,
            last: Instant::now(),
            durations: Vec::new(),
            losses: None,
            validation: None,
            options,
        })
    }

    /// Computes the validation loss, which is shown with the next [`Reporter::step`], or at the end
    /// if there is none.
    pub fn validate(&mut self, compute: impl FnOnce() -> Result<Validation>) -> Result<()> {
        self.validation = Some(self.untimed(compute)?);
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
        let validation = self.validation.take();
        self.display.step(stats, validation, tokens_per_second)?;
        if let Some(picture) = &mut self.picture {
            picture.curve.push(stats.step, stats.loss, validation.map(|of| of.loss));
        }
        let (mfu, mfu_strict) = utilisation(&self.options, tokens_per_second).unzip();
        let line = || Line {
            step: stats.step,
            loss: stats.loss,
            grad_norm: stats.grad_norm,
            lr: stats.lr,
            tokens: (stats.step * self.options.tokens_per_step) as u64,
            tokens_per_second,
            mfu,
            comm_bytes: stats.comm_bytes.clone(),
            peak_memory_bytes: (self.options.peak_memory)(),
            mfu_strict,
            val_loss: validation.map(|of| of.loss),
            val_samples: validation.map(|of| of.samples),
        };
        if let Some(file) = &mut self.metrics {
            file.write(&line())?;
        }
        self.events.as_mut().map_or(Ok(()), |events| events.write(&line()))
    }

    /// Ends the display with one line that sums the run up, and draws the losses.
    pub fn finish(mut self) -> Result<Summary> {
        let late = &self.durations[self.durations.len() / 2..];
        let tokens = (late.len() * self.options.tokens_per_step) as f64;
        let seconds: f64 = late.iter().map(Duration::as_secs_f64).sum();
        let tokens_per_second = if late.is_empty() { 0.0 } else { tokens / seconds };
        let (mfu, mfu_strict) = utilisation(&self.options, tokens_per_second).unzip();
        let summary = Summary {
            steps: self.durations.len(),
            seconds: self.durations.iter().map(Duration::as_secs_f64).sum(),
            losses: self.losses,
            validation: self.validation,
            tokens_per_second,
            mfu,
            mfu_strict,
            peak_memory_bytes: (self.options.peak_memory)(),
        };
        self.display.finish(&summary)?;
        self.picture.take().map_or(Ok(()), Picture::finish)?;
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
mod tests;
