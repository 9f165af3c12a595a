//! The metrics file: one JSON object per optimiser step.

use crate::CommBytes;
use crate::whole::write_whole;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What is reported about one optimiser step. It is the same on every rank, except for
/// `comm_bytes`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepStats {
    /// Counted from 1.
    pub step: usize,
    /// Mean cross-entropy per token of the global batch, in nats, before the update.
    pub loss: f64,
    /// Norm of the whole gradient, before clipping.
    pub grad_norm: f64,
    /// Learning rate of this update.
    pub lr: f64,
    /// What this rank sent during the step.
    pub comm_bytes: CommBytes,
}

/// One line of the file; its fields are written in this order.
#[derive(Serialize)]
pub(crate) struct Line {
    pub step: usize,
    pub loss: f64,
    pub grad_norm: f64,
    pub lr: f64,
    pub tokens: u64,
    pub tokens_per_second: f64,
    /// In the usual count ([`crate::flops_per_token`]).
    pub mfu: Option<f64>,
    pub comm_bytes: CommBytes,
    pub peak_memory_bytes: Option<u64>,
    /// In the strict count ([`crate::strict_flops_per_token`]); left out if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mfu_strict: Option<f64>,
    /// On the steps after which it was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// How many samples that is the mean over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_samples: Option<usize>,
}

pub(crate) struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Creates the file, or replaces it. A run that resumes after `start` steps keeps the lines of
    /// those steps and drops later ones, so that the file reads as if nothing had interrupted it. A
    /// pipe or a terminal is never read: it might not end.
    pub fn create(path: &Path, start: usize) -> Result<Self> {
        let go_on = || {
            let lines = metrics_up_to(path, start)?;
            write_whole(path, lines.as_bytes())?;
            Ok(File::options().append(true).open(path)?)
        };
        let file: Result<File> = if start > 0 && path.is_file() {
            go_on() // at every moment the file has the lines of the first `start` steps
        } else {
            File::create(path).map_err(Into::into)
        };
        let file =
            file.with_context(|| format!("cannot write the metrics file {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends one line, and flushes it at once: whoever follows the file sees each step as
    /// soon as it is done.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .with_context(|| format!("cannot write the metrics file {}", self.path.display()))
    }
}

/// The lines of the first `start` steps in a file of metrics.
///
/// # Errors
/// If it holds anything else, which a resumed run would delete. (A killed run may have written only
/// a part of its last line.)
pub fn metrics_up_to(path: &Path, start: usize) -> Result<String> {
    #[derive(Deserialize)]
    struct Step {
        step: usize,
    }
    let bytes = std::fs::read(path)?;
    let mut done = String::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match (serde_json::from_slice::<Step>(line), std::str::from_utf8(line)) {
            (Ok(Step { step }), Ok(line)) if step <= start => done += line,
            (Ok(_), _) => {}
            _ if line.trim_ascii().is_empty() => {}
            _ if line.starts_with(b"{") && !line.ends_with(b"\n") => {}
            _ => bail!("it holds lines that are not metrics: name another file"),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    fn line(step: usize, loss: f64) -> Line {
        Line {
            step,
            loss,
            grad_norm: 0.1 + 0.2,
            lr: 3e-4 / 7.0,
            tokens: 4096,
            tokens_per_second: 1e5 / 3.0,
            mfu: None,
            comm_bytes: [("dp", 1), ("tp", 2), ("pp", 3), ("cp", u64::MAX)].into_iter().collect(),
            peak_memory_bytes: Some(1 << 33),
            mfu_strict: None,
            val_loss: None,
            val_samples: None,
        }
    }

    #[test]
    fn keys_stand_in_the_promised_order() {
        let text = serde_json::to_string(&Line { lr: 0.5, loss: 2.0, ..line(1, 2.0) }).unwrap();
        assert_eq!(
            text,
            "{\"step\":1,\"loss\":2.0,\"grad_norm\":0.30000000000000004,\"lr\":0.5,\"tokens\":4096,\
             \"tokens_per_second\":33333.333333333336,\"mfu\":null,\
             \"comm_bytes\":{\"dp\":1,\"tp\":2,\"pp\":3,\"cp\":18446744073709551615},\
             \"peak_memory_bytes\":8589934592}"
        );
        // What only some lines have stands behind what all have.
        let (mfu, mfu_strict) = (Some(0.5), Some(0.25));
        let (val_loss, val_samples) = (Some(1.5), Some(8));
        let all = Line { mfu, mfu_strict, val_loss, val_samples, ..line(1, 2.0) };
        let text = serde_json::to_string(&all).unwrap();
        assert!(text.contains(",\"mfu\":0.5,\"comm_bytes\":{"), "{text}");
        let end = "\"peak_memory_bytes\":8589934592,\"mfu_strict\":0.25,\"val_loss\":1.5,\
                   \"val_samples\":8}";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn every_f64_comes_back_bit_for_bit() {
        // Neighbours of one number, and the awkward ends of the range.
        let near = (0..1000).map(|i| f64::from_bits(2.345678f64.to_bits() + i));
        let ends = [f64::MIN_POSITIVE, f64::MAX, 5e-324, 1.0 / 3.0, 0.1, 9007199254740993.0];
        for loss in near.chain(ends) {
            let text = serde_json::to_string(&line(1, loss)).unwrap();
            let back: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(back["loss"].as_f64().unwrap().to_bits(), loss.to_bits(), "{text}");
        }
    }

    #[test]
    fn a_pipe_is_written_to_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let mut reader = Command::new("cat");
        let reader = reader.arg(&path).stdout(Stdio::piped()).spawn().unwrap();
        // Reading would not end, so this test must.
        let (done, files) = mpsc::channel();
        thread::spawn(move || {
            done.send([0, 3].map(|start| MetricsFile::create(&path, start).unwrap()))
        });
        let mut files = files.recv_timeout(Duration::from_secs(20)).unwrap();
        for (file, step) in files.iter_mut().zip(1..) {
            file.write(&line(step, 1.0)).unwrap();
        }
        drop(files);
        let text = reader.wait_with_output().unwrap().stdout;
        assert_eq!(text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count(), 2);
    }

    #[test]
    fn a_resumed_run_continues_the_file_where_its_checkpoint_stands() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        let mut file = MetricsFile::create(&path, 0).unwrap();
        (1..=5).for_each(|s| file.write(&line(s, 1.0)).unwrap());
        let mut file = MetricsFile::create(&path, 3).unwrap();
        file.write(&line(4, 2.0)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let steps: Vec<_> = text.lines().map(|l| &l[..9]).collect();
        assert_eq!(steps, ["{\"step\":1", "{\"step\":2", "{\"step\":3", "{\"step\":4"]);
        assert!(text.ends_with("}\n"));

        // As whom it was known before, and nothing beside it.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        MetricsFile::create(&link, 2).unwrap().write(&line(3, 2.0)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
        assert!(link.is_symlink());
        assert_eq!(dir.path().read_dir().unwrap().count(), 2);

        // A line that a killed run did not finish is dropped.
        let torn = std::fs::read_to_string(&path).unwrap() + "{\"step\":4,\"lo";
        std::fs::write(&path, torn).unwrap();
        MetricsFile::create(&path, 3).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);

        MetricsFile::create(&path, 0).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "", "a fresh run starts a fresh file");
    }

    #[test]
    fn a_resumed_run_continues_no_file_of_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        for text in [&b"remember the milk"[..], b"{\"milk\":1}\n", b"caf\xe9\n"] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", MetricsFile::create(&path, 3).err().unwrap());
            let why = "it holds lines that are not metrics: name another file";
            assert!(error.ends_with(why), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), text);
        }
    }
}
