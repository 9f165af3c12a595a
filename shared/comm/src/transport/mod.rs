//! The seam between collectives and the machine: bytes that move between two ranks.
//!
//! A collective only ever asks for one thing: send these bytes to one rank while receiving from
//! another. [`threads`] answers it within one process by letting the receiver read the sender's
//! memory, [`TcpTransport`] with sockets.

mod accept;
mod header;
mod message;
mod poll;
mod tcp;
mod threads;

pub(crate) use accept::LASTING;
pub use header::{Header, OpCode};
pub use tcp::TcpTransport;
pub use threads::threads;

use crate::abort::Abort;
use crate::error::{CommError, Result};
use crate::reduce::Combine;
use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

/// How long a wait may last before it looks at the run's `Abort` again.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(50);

/// Most bytes that should move in one go, a multiple of every element. Ranks of one machine talk in
/// packets of at most 65483 bytes (64 KiB less what TCP and IP put in front), and each has a fixed
/// cost, however short it is. A message of this length with its header fills two of them; one of
/// 128 KiB would be followed by a third, of 122 bytes. Longer pieces do not stay in the cache.
pub(crate) const PIECE: usize = 2 * 65480 - Header::BYTES;

/// Longest time between two looks of a rank that is running.
const NAP: Duration = Duration::from_secs(1);

/// How long a broken connection waits for its reason.
const REASON: Duration = Duration::from_millis(200);

/// Names, together with sender and receiver, one stream of bytes that arrives in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Identifier of the group, the same on all its members.
    pub group: u32,
    /// Collectives and point-to-point messages of a group travel apart.
    pub lane: u32,
}

/// Bytes to send.
pub struct Outgoing<'a> {
    /// World rank of the receiver.
    pub to: usize,
    pub bytes: &'a [u8],
}

/// Bytes to expect, as many as `into` holds.
pub struct Incoming<'a> {
    /// World rank of the sender.
    pub from: usize,
    pub into: &'a mut [u8],
    /// How they are combined with what `into` holds; by default they replace it. It is called on
    /// parts of `into` that begin and end at multiples of 8 bytes or at its end, so no element of a
    /// tensor is ever split.
    pub combine: Option<Combine>,
}

/// The operation an exchange belongs to: what it checks against its peers, how long it waits, and
/// the names it puts into an error.
pub struct Call<'a> {
    /// What this rank is doing; a peer that is doing something else is a mismatch.
    pub header: Header,
    /// Name of the group.
    pub group: &'a str,
    /// World rank of the caller.
    pub rank: usize,
    /// Coordinates of every world rank, for errors.
    pub names: &'a [String],
    /// Longest wait without any progress.
    pub timeout: Duration,
}

impl Call<'_> {
    fn timed_out(&self, peer: usize) -> CommError {
        CommError::Timeout {
            rank: self.name(self.rank),
            group: self.group.to_string(),
            op: self.header.op.to_string(),
            peer: self.name(peer),
            seconds: self.timeout.as_secs_f64(),
        }
    }

    /// The connection to `peer` broke. Usually the cause is already on its way here, and says more.
    pub(crate) fn lost(&self, abort: &Abort, peer: usize, source: io::Error) -> CommError {
        if let Some(cause) = abort.wait(REASON) {
            return CommError::Aborted { cause };
        }
        CommError::Lost {
            rank: self.name(self.rank),
            group: self.group.to_string(),
            op: self.header.op.to_string(),
            peer: self.name(peer),
            source,
        }
    }

    pub(crate) fn mismatch(&self, peer: usize, theirs: String) -> CommError {
        CommError::Mismatch {
            rank: self.name(self.rank),
            group: self.group.to_string(),
            peer: self.name(peer),
            ours: self.header.to_string(),
            theirs,
        }
    }

    /// Called at least every [`LOOK_UP`] while this rank waits for `peer`: an error once the run
    /// has ended, or nothing has moved for too long.
    pub(crate) fn patience(&self, abort: &Abort, waited: &Waited, peer: usize) -> Result<()> {
        abort.check()?;
        if waited.so_far() >= self.timeout {
            return Err(self.timed_out(peer));
        }
        Ok(())
    }

    fn name(&self, rank: usize) -> String {
        let unnamed = || rank.to_string();
        self.names.get(rank).cloned().unwrap_or_else(unnamed)
    }
}

/// For how long a rank has waited. Of the time between two looks at this clock, what is beyond [`NAP`] does
/// not count: then this process did not run (it was stopped from a terminal), and neither did its peers.
pub(crate) struct Waited(Cell<(Instant, Duration)>);

impl Waited {
    pub(crate) fn from_now() -> Self {
        Self(Cell::new((Instant::now(), Duration::ZERO)))
    }

    pub(crate) fn so_far(&self) -> Duration {
        let ((before, waited), now) = (self.0.get(), Instant::now());
        let waited = waited + (now - before).min(NAP);
        self.0.set((now, waited));
        waited
    }
}

/// Moves bytes between this rank and any other of the world.
pub trait Transport: Send + Sync {
    /// Sends `out` to one rank and receives `from` another, both at once; returns when both are
    /// done. Either may be absent, and both may name the same rank.
    ///
    /// # Errors
    /// Timeout, a lost peer, an abort elsewhere, or a peer whose [`Header`] differs. After an error
    /// the streams it touched are out of step and the run must end.
    fn exchange(
        &self,
        channel: Channel,
        out: Option<Outgoing>,
        from: Option<Incoming>,
        call: &Call,
    ) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_stopped_has_not_waited_meanwhile() {
        let waited = Waited::from_now();
        std::thread::sleep(Duration::from_millis(50));
        assert!(waited.so_far() >= Duration::from_millis(50));
        std::thread::sleep(2 * NAP); // as if stopped: nobody looks
        assert!(waited.so_far() < 2 * NAP);
    }
}
