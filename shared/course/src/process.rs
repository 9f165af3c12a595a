//! Processes that end: when they are done, when their time is over, or when Ctrl-C is pressed.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

/// Starts processes, each as the head of a group, and ends whole groups.
#[derive(Clone, Default)]
pub struct Runner {
    running: Arc<Mutex<Option<Pid>>>,
}

/// How a process ended.
pub struct Ended {
    /// `None`: it was still running when its time was over, and was ended.
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

/// What a process wrote last may take so long to be read on a busy machine.
const DRAIN: Duration = Duration::from_secs(10);

/// One line of a running process.
pub enum Line {
    Out(String),
    Err(String),
}

impl Runner {
    /// A runner whose process also ends when this program is told to.
    pub fn new() -> Result<Self> {
        let runner = Self::default();
        let running = runner.running.clone();
        let signals = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
        let mut signals = signal_hook::iterator::Signals::new(signals)?;
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                if let Some(group) = *running.lock().expect("no panic while it is held") {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                std::process::exit(128 + signal);
            }
        });
        Ok(runner)
    }

    /// Runs `command` for at most `limit`; `seen` gets each line as it comes. The limit starts
    /// anew with every line for which `seen` returns true.
    pub fn run(
        &self,
        command: &mut Command,
        limit: Duration,
        mut seen: impl FnMut(&Line) -> bool,
    ) -> Result<Ended> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let start = Instant::now();
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
        let group = Pid::from_child(&child);
        *self.running.lock().expect("no panic while it is held") = Some(group);
        let (send, lines): (_, Receiver<Line>) = sync_channel(1024);
        read(child.stdout.take(), send.clone(), Line::Out);
        read(child.stderr.take(), send, Line::Err);
        let (mut out, mut err) = (Kept::default(), Kept::default());
        let mut deadline = start + limit;
        let mut status = None;
        while Instant::now() < deadline {
            let line = lines.recv_timeout(Duration::from_millis(20));
            if status.is_none() {
                status = child.try_wait()?;
                if status.is_some() {
                    // What it started ends with it, and closes its output.
                    let _ = kill_process_group(group, Signal::KILL);
                    deadline = Instant::now() + DRAIN;
                }
            }
            match line {
                Ok(line) => {
                    if seen(&line) && status.is_none() {
                        deadline = Instant::now() + limit;
                    }
                    match line {
                        Line::Out(line) => out.push(line),
                        Line::Err(line) => err.push(line),
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if status.is_some() => break,
                // It has closed its output, and runs on.
                Err(RecvTimeoutError::Disconnected) => thread::sleep(Duration::from_millis(5)),
            }
        }
        // Also whatever it started.
        let _ = kill_process_group(group, Signal::KILL);
        if status.is_none() {
            child.wait()?;
        }
        *self.running.lock().expect("no panic while it is held") = None;
        Ok(Ended { status, stdout: out.text(), stderr: err.text(), took: start.elapsed() })
    }
}

/// Sends what comes line by line, until nobody listens.
fn read(
    from: Option<impl Read + Send + 'static>,
    to: SyncSender<Line>,
    line: impl Fn(String) -> Line + Send + 'static,
) {
    let Some(from) = from else { return };
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut bytes = Vec::new();
            // A line without end comes in pieces.
            match from.by_ref().take(1 << 16).read_until(b'\n', &mut bytes) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            if to.send(line(text)).is_err() {
                return;
            }
        }
    });
}

/// The first lines and the last ones: a test that prints without end fills no memory.
#[derive(Default)]
struct Kept {
    first: Vec<String>,
    last: VecDeque<String>,
    bytes: usize,
    is_cut: bool,
}

impl Kept {
    const BYTES: usize = 1 << 20;
    const LAST: usize = 200;

    fn push(&mut self, line: String) {
        self.bytes += line.len() + 1;
        if self.bytes < Self::BYTES {
            self.first.push(line);
            return;
        }
        self.last.push_back(line);
        if self.last.len() > Self::LAST {
            self.last.pop_front();
            self.is_cut = true;
        }
    }

    fn text(self) -> String {
        let cut = self.is_cut.then(|| "[…]".to_owned());
        let lines: Vec<_> = self.first.into_iter().chain(cut).chain(self.last).collect();
        lines.join("\n")
    }
}
