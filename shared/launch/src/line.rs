//! The line between a rank and the process that started it, over the rank's standard input (a rank
//! reads nothing else from there). It carries the rendezvous port and, at the end, the cause; and
//! each side notices at once when the other has ended.

use crate::exit::end_process;
use crate::outcome::Failure;
use crate::signals::Signals;
use anyhow::Context;
use comm::sync::{lock, start};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// Where rank 0 listens: from rank 0 to the parent, from the parent to all.
    Port(u16),
    /// From the parent, which a signal has told to end, to all.
    Stop(i32),
    /// From a rank to the parent: all ranks have agreed to end because of a signal.
    Stopped(i32),
    /// From a rank to the parent.
    Failed(Failure),
}

/// Every word until the other side ends; one that cannot be read counts as its end.
pub(crate) fn words(stream: impl io::Read) -> impl Iterator<Item = Word> {
    let lines = BufReader::new(stream).lines();
    lines.map_while(|line| serde_json::from_str(&line.ok()?).ok())
}

pub(crate) fn say(mut stream: &UnixStream, word: &Word) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// The rank's end.
#[derive(Clone)]
pub(crate) struct ParentLine {
    stream: Arc<UnixStream>,
    port: Arc<(Mutex<Option<u16>>, Condvar)>,
}

impl ParentLine {
    /// Takes over standard input.
    pub fn from_stdin() -> anyhow::Result<Self> {
        let descriptor = io::stdin().as_fd().try_clone_to_owned();
        let stream = UnixStream::from(descriptor.context("standard input is closed")?);
        Ok(Self { stream: Arc::new(stream), port: Arc::default() })
    }

    /// Listens to the parent. From now on this process ends when its parent does, and is told of
    /// the parent's signals.
    pub fn listen(&self, signals: Signals) -> anyhow::Result<()> {
        let reader = self.stream.try_clone().context("standard input is not the launcher's")?;
        let port = self.port.clone();
        start("hear the launcher", move || {
            for word in words(reader) {
                match word {
                    Word::Port(number) => {
                        *lock(&port.0) = Some(number);
                        port.1.notify_all();
                    }
                    Word::Stop(signal) => signals.tell(signal),
                    Word::Stopped(_) | Word::Failed(_) => {}
                }
            }
            end_process()
        })?;
        Ok(())
    }

    /// Rank 0: where it listens.
    pub fn listening(&self, port: u16) {
        // If the parent has ended, the reading thread ends this process.
        let _ = say(&self.stream, &Word::Port(port));
    }

    /// The other ranks: where rank 0 listens, or `None` after `limit`.
    pub fn port(&self, limit: Duration) -> Option<u16> {
        let port = lock(&self.port.0);
        let waited = self.port.1.wait_timeout_while(port, limit, |port| port.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// All ranks have ended early.
    pub fn stopped(&self, signal: i32) {
        let _ = say(&self.stream, &Word::Stopped(signal));
    }

    /// Why this rank's part of the run failed.
    pub fn fail(&self, failure: &Failure) {
        let _ = say(&self.stream, &Word::Failed(failure.clone()));
    }
}
