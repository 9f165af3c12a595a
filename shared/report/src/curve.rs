//! The losses of a run, as they are drawn.

use crate::metrics_up_to;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::path::Path;

/// The losses of one run, by step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// What the run is called where there are several.
    pub name: String,
    /// Step and training loss.
    pub losses: Vec<(usize, f64)>,
    /// Step and validation loss, of the steps that have one.
    pub validation: Vec<(usize, f64)>,
}

/// What is read of a line of metrics.
#[derive(Deserialize)]
struct Step {
    step: usize,
    loss: f64,
    val_loss: Option<f64>,
}

impl Curve {
    /// The run that wrote a file of metrics, named after the file.
    ///
    /// # Errors
    /// If the file cannot be read, holds anything else, or holds no step.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.file_stem().unwrap_or_default().display().to_string();
        let curve = Self { name, ..Self::up_to(path, usize::MAX)? };
        ensure!(!curve.losses.is_empty(), "{} holds no step", path.display());
        Ok(curve)
    }

    /// Its first `start` steps.
    ///
    /// # Errors
    /// If the file cannot be read, or holds anything else than metrics.
    pub(crate) fn up_to(path: &Path, start: usize) -> Result<Self> {
        let about = || format!("metrics {}", path.display());
        let mut curve = Self::default();
        for line in metrics_up_to(path, start).with_context(about)?.lines() {
            let Step { step, loss, val_loss } = serde_json::from_str(line).with_context(about)?;
            curve.push(step, loss, val_loss);
        }
        Ok(curve)
    }

    pub(crate) fn push(&mut self, step: usize, loss: f64, validation: Option<f64>) {
        self.losses.push((step, loss));
        self.validation.extend(validation.map(|loss| (step, loss)));
    }
}

/// At most `most` points, each of them the mean of as many neighbours, in which a long run's
/// curve can still be seen; and how many those are.
pub(crate) fn thinned(points: &[(usize, f64)], most: usize) -> (Vec<(f64, f64)>, usize) {
    let each = points.len().div_ceil(most).max(1);
    let mean = |points: &[(usize, f64)]| {
        let n = points.len() as f64;
        let sum = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0 as f64, y + p.1));
        (sum.0 / n, sum.1 / n)
    };
    (points.chunks(each).map(mean).collect(), each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_metrics_is_a_curve() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wide.jsonl");
        let line = |step, more| format!("{{\"step\":{step},\"loss\":{step}.5,\"lr\":1{more}}}\n");
        let text = [line(1, ""), line(2, ",\"val_loss\":2.25"), line(3, "")].concat();
        std::fs::write(&path, &text).unwrap();
        let curve = Curve::read(&path).unwrap();
        assert_eq!(
            (&*curve.name, &curve.losses[..]),
            ("wide", &[(1, 1.5), (2, 2.5), (3, 3.5)][..])
        );
        assert_eq!(curve.validation, [(2, 2.25)]);
        assert_eq!(Curve::up_to(&path, 1).unwrap().losses, [(1, 1.5)]);

        let said = |text: &str| {
            std::fs::write(&path, text).unwrap();
            format!("{:#}", Curve::read(&path).unwrap_err())
        };
        assert!(said("").ends_with("wide.jsonl holds no step"));
        let other = "wide.jsonl: it holds lines that are not metrics: name another file";
        assert!(said("Once upon a time\n").ends_with(other), "{}", said("Once upon a time\n"));
        assert!(said("{\"step\":1}\n").contains("missing field `loss`"));
    }

    #[test]
    fn a_long_run_is_drawn_by_means() {
        let points: Vec<_> = (1..=10).map(|step| (step, step as f64)).collect();
        assert_eq!(thinned(&points, 10).1, 1);
        assert_eq!(
            thinned(&points, 4),
            (vec![(2.0, 2.0), (5.0, 5.0), (8.0, 8.0), (10.0, 10.0)], 3)
        );
        assert_eq!(thinned(&[], 4), (vec![], 1));
    }
}
