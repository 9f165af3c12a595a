//! The numbers of a run as TensorBoard reads them: a file of records, each a message of protocol
//! buffers. No crate that writes them is kept, so the three messages that scalars need are declared
//! here, after TensorFlow's `event.proto` and `summary.proto`.

use crate::metrics::Line;
use anyhow::{Context, Result};
use crc::{CRC_32_ISCSI, Crc};
use prost::{Message, Oneof};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5, 7")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
    #[prost(message, tag = "7")]
    SessionLog(SessionLog),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// Tells of a run's start: what earlier files say of its steps and later ones counts no more.
#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

const START: i32 = 1;

/// The file of one run.
pub(crate) struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins a file in `dir` for the steps after `start`.
    pub fn create(dir: &Path, start: usize) -> Result<Self> {
        let about = || format!("cannot write TensorBoard's events to {}", dir.display());
        fs::create_dir_all(dir).with_context(about)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // TensorBoard reads the files of a directory in the order of their names.
        let name = format!("events.out.tfevents.{}.{}", since.as_nanos(), std::process::id());
        let path = dir.join(name);
        let file = File::create_new(&path).with_context(about)?;
        let mut events = Self { path, file };
        events.record(0, What::FileVersion("brain.Event:2".into()))?;
        events.record(start + 1, What::SessionLog(SessionLog { status: START }))?;
        Ok(events)
    }

    /// Appends one step's numbers, and hands them to the system at once: TensorBoard follows.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let numbers = [
            ("loss/training", Some(line.loss)),
            ("loss/validation", line.val_loss),
            ("optimizer/grad_norm", Some(line.grad_norm)),
            ("optimizer/lr", Some(line.lr)),
            ("speed/tokens_per_second", Some(line.tokens_per_second)),
            ("speed/mfu", line.mfu),
            ("speed/tokens", Some(line.tokens as f64)),
            ("memory/peak_bytes", line.peak_memory_bytes.map(|bytes| bytes as f64)),
        ];
        let value = |(tag, number): (&str, Option<f64>)| {
            Some(Value { tag: tag.into(), simple_value: number? as f32 })
        };
        let value = numbers.into_iter().filter_map(value).collect();
        self.record(line.step, What::Summary(Summary { value }))
    }

    fn record(&mut self, step: usize, what: What) -> Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (wall_time, step) = (since.as_secs_f64(), i64::try_from(step)?);
        let message = Event { wall_time, step, what: Some(what) }.encode_to_vec();
        self.file.write_all(&framed(&message)).with_context(|| {
            format!("cannot write TensorBoard's events to {}", self.path.display())
        })
    }
}

/// A message as a record of a file (TFRecord): its length, a checksum of that, the message, its
/// checksum, all little-endian.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let (of_length, of_message) = (checksum(&length), checksum(message));
    [&length[..], &of_length.to_le_bytes(), message, &of_message.to_le_bytes()].concat()
}

/// CRC-32C, rotated and shifted as TensorFlow masks it.
fn checksum(bytes: &[u8]) -> u32 {
    let crc = Crc::<u32>::new(&CRC_32_ISCSI).checksum(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests;
