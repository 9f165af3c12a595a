//! The picture of a run's losses, drawn when it ends.

use crate::whole::write_whole;
use crate::{Curve, Options, plot};
use anyhow::{Context, Result};
use std::path::PathBuf;

pub(crate) struct Picture {
    path: PathBuf,
    pub curve: Curve,
    is_drawn: bool,
}

impl Picture {
    /// Of a run that goes on from another, the losses of that one are drawn too, if its file of
    /// metrics is the one that this run writes on.
    pub fn new(path: PathBuf, options: &Options) -> Result<Self> {
        let earlier = options.metrics.as_deref().filter(|path| options.start > 0 && path.is_file());
        let curve = earlier.map(|metrics| Curve::up_to(metrics, options.start)).transpose()?;
        Ok(Self { path, curve: curve.unwrap_or_default(), is_drawn: false })
    }

    pub fn finish(mut self) -> Result<()> {
        self.draw()
    }

    fn draw(&mut self) -> Result<()> {
        self.is_drawn = true; // or it cannot be
        if self.curve.losses.is_empty() {
            return Ok(()); // no step, no picture
        }
        let svg = plot::svg(std::slice::from_ref(&self.curve))?;
        write_whole(&self.path, svg.as_bytes())
            .with_context(|| format!("cannot write the loss curve {}", self.path.display()))
    }
}

/// A run that fails, say because its loss is no number, has a curve to look at.
impl Drop for Picture {
    fn drop(&mut self) {
        if !self.is_drawn {
            let _ = self.draw(); // the run's own error is the one to tell
        }
    }
}
