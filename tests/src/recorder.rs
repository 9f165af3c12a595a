//! What a step asks of a GPU, call by call, on a machine that need not have one: `recorder/` takes
//! the place of CUDA's runtime under the real libtorch_cuda.so. That is part of a libtorch with
//! CUDA, `make setup CUDA=1`.

use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What stands in the environment of a program that is recorded: where the calls go.
pub const PATH: &str = "RECORD_GPU";

/// A call, on one of the streams; 0 is the one that computes.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "a field is a word of the line that records the call")]
pub enum Call {
    /// By its name in the library, which C++ has mangled.
    Kernel {
        stream: u32,
        name: String,
    },
    /// A matrix product, with its sizes and dtypes in words.
    Product {
        stream: u32,
        what: String,
    },
    Copy {
        stream: u32,
        way: String,
        bytes: u64,
    },
    /// A collective or a message.
    Nccl {
        stream: u32,
        operation: String,
        count: u64,
    },
    /// The host waits for the GPU.
    Wait(String),
    /// Bytes that libtorch's allocator takes from the GPU.
    Malloc(u64),
    /// Streams, events, communicators.
    Other(String),
}

impl Call {
    fn parse(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse().ok());
        let last = *words.last().context("a line without words")?;
        let call = match (words[0], number(2)) {
            ("kernel", Some(stream)) => Self::Kernel { stream, name: last.into() },
            ("product", Some(stream)) => Self::Product { stream, what: words[3..].join(" ") },
            ("copy", Some(stream)) => {
                Self::Copy { stream, way: words[3].into(), bytes: last.parse()? }
            }
            ("nccl", Some(stream)) => {
                Self::Nccl { stream, operation: words[5].into(), count: last.parse()? }
            }
            ("wait", _) => Self::Wait(words[1..].join(" ")),
            ("malloc", _) => Self::Malloc(last.parse()?),
            _ => Self::Other(line.into()),
        };
        Ok(call)
    }

    /// Whether the host fetches a number.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Copy { way, bytes: ..=8, .. } if way == "down")
    }
}

/// What one rank asked for.
pub struct Recorded {
    /// Its number in the world.
    pub rank: usize,
    /// The most bytes that tensors held at one time, by libtorch's own allocator.
    pub peak: u64,
    /// What the host took for the last step, in milliseconds.
    pub host: f64,
    /// The start (weights, communicators) with the first step, then each further step, up to where
    /// the host has read its numbers.
    pub steps: Vec<Vec<Call>>,
}

/// Whether there is a libtorch to record.
///
/// # Errors
/// A sentence that says what is missing.
pub fn available() -> Result<()> {
    match gpu::load() {
        Err(why) if why.to_string().contains("cannot be loaded") => {
            bail!(
                "this libtorch has no CUDA half to record: `make setup CUDA=1` fetches one (2.5 GB)"
            )
        }
        _ => Ok(()), // a GPU is not needed, and not used
    }
}

/// Has `program` (the binary `kernels`) train `step` under these flags, and reads what its
/// ranks asked for.
pub fn recorded(program: &str, step: u8, flags: &[String]) -> Result<Vec<Recorded>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("calls");
    let recorder = env!("RECORDER");
    let mut command = Command::new(program);
    command.arg(step.to_string()).args(flags).env(PATH, &path);
    // Names in these are found before those of CUDA's own libraries, whatever path leads there.
    command.env("LD_PRELOAD", format!("{recorder}/librecorder.so:{recorder}/libnccl.so.2"));
    let others =
        std::env::var("LD_LIBRARY_PATH").map_or(String::new(), |paths| format!(":{paths}"));
    command.env("LD_LIBRARY_PATH", format!("{recorder}{others}")); // libcuda.so.1
    let output = command.output().with_context(|| format!("cannot start {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", errors.trim());

    let read = |rank| {
        let [calls, told] = files_of(&path, rank).map(std::fs::read_to_string);
        let (calls, told) = (calls?, told?);
        let (peak, host) = told.split_once(' ').context("a rank says two numbers")?;
        let calls: Vec<Call> = calls.lines().map(Call::parse).collect::<Result<_>>()?;
        Ok(Recorded { rank, peak: peak.parse()?, host: host.parse()?, steps: by_step(calls) })
    };
    (0..).take_while(|rank| files_of(&path, *rank)[0].exists()).map(read).collect()
}

/// Of one rank, the file of its calls, and that of `PEAK HOST`, two fields of [`Recorded`].
pub fn files_of(path: &Path, rank: usize) -> [PathBuf; 2] {
    ["", ".told"].map(|end| format!("{}.{rank}{end}", path.display()).into())
}

/// A step ends when the host has the last of its numbers. What comes after the last
/// step is left out.
fn by_step(calls: Vec<Call>) -> Vec<Vec<Call>> {
    let (mut steps, mut step, mut has_read) = (vec![], vec![], false);
    for call in calls {
        let waits_for_number = matches!(&call, Call::Wait(what) if what.starts_with("stream"));
        if has_read && !call.is_read() && !waits_for_number {
            steps.push(std::mem::take(&mut step));
            has_read = false;
        }
        has_read |= call.is_read();
        step.push(call);
    }
    steps.extend(has_read.then_some(step));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_with_its_last_number() {
        let lines = "malloc 512\ncopy stream 0 up 64\nkernel stream 0 grid 1,1,1 block 32,1,1 k\n\
                     copy stream 0 down 4\nwait stream 0\ncopy stream 0 down 4\nwait stream 0\n\
                     copy stream 0 down 512\nproduct stream 0 1 x 2 x 3 batch 4 f32 to f32\n\
                     nccl stream 5 comm 1 send 7\ncopy stream 0 down 8\nwait stream 0\nwait device";
        let steps = by_step(lines.lines().map(|line| Call::parse(line).unwrap()).collect());
        assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [7, 5]);
        assert_eq!(steps[0][0], Call::Malloc(512));
        assert_eq!(steps[0][2], Call::Kernel { stream: 0, name: "k".into() });
        let product = Call::Product { stream: 0, what: "1 x 2 x 3 batch 4 f32 to f32".into() };
        assert_eq!(steps[1][1], product);
        let send = Call::Nccl { stream: 5, operation: "send".into(), count: 7 };
        assert_eq!(steps[1][2], send);
    }
}
