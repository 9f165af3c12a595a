//! The seam between collectives and the machine: bytes that move between two ranks.
//!
//! A collective only ever asks for one thing: send these bytes to one rank while receiving from
//! another. Within one process the receiver reads the sender's memory
//! ([`thread_transports`](crate::thread_transports)); between processes there are sockets (the
//! crate `launch`).

use crate::abort::Abort;
use crate::error::{CommError, Result};
use crate::layout::GroupSpec;
use crate::reduce::{self, Combine};
use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

/// How long a wait may last before it looks at the run's [`Abort`] again.
pub const LOOK_UP: Duration = Duration::from_millis(50);

/// Most bytes that should move in one go, a multiple of every element. Ranks of one machine talk in
/// packets of at most 65483 bytes (64 KiB less what TCP and IP put in front), and each has a fixed
/// cost, however short it is. A message of this length with its header fills two of them; one of
/// 128 KiB would be followed by a third, of 122 bytes. Longer pieces do not stay in the cache.
pub const PIECE: usize = 2 * 65480 - Header::BYTES;

/// Longest time between two looks of a rank that is running.
const NAP: Duration = Duration::from_secs(1);

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
    /// All of them.
    pub bytes: &'a [u8],
}

/// Bytes to expect, as many as `into` holds.
pub struct Incoming<'a> {
    /// World rank of the sender.
    pub from: usize,
    /// Where they go.
    pub into: &'a mut [u8],
    /// How they are combined with what `into` holds; by default they replace it. It is called on
    /// parts of `into` that begin and end at multiples of 8 bytes or at its end, so no element of a
    /// tensor is ever split.
    pub combine: Option<Combine>,
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

/// What a rank is doing; it goes in front of every message. Two ranks whose headers differ have
/// made different calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The operation.
    pub op: OpCode,
    /// Index into [`DTYPES`](reduce::DTYPES).
    pub dtype: u8,
    /// Root of a broadcast, in group ranks; otherwise 0.
    pub root: u32,
    /// Elements of the tensor that was passed.
    pub numel: u64,
}

impl Header {
    /// The header of a barrier, which moves no tensor.
    pub const BARRIER: Header = Header { op: OpCode::Barrier, dtype: 0, root: 0, numel: 0 };
    /// That of ranks that agree on a number.
    pub const HIGHEST: Header = Header { op: OpCode::Highest, ..Self::BARRIER };
    /// Its length, where it travels.
    pub const BYTES: usize = 16;
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if [OpCode::Barrier, OpCode::Highest].contains(&self.op) {
            return write!(f, "{}", self.op);
        }
        write!(f, "{} of {} {} elements", self.op, self.numel, reduce::name(self.dtype))?;
        if self.op == OpCode::Broadcast {
            write!(f, " from group rank {}", self.root)?;
        }
        Ok(())
    }
}

macro_rules! op_codes {
    ($($op:ident = $name:literal,)*) => {
        /// An operation, in a header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum OpCode {
            $(#[doc = concat!("`", $name, "`")] $op,)*
        }

        impl OpCode {
            /// Each at the place of its number.
            pub const ALL: &[OpCode] = &[$(OpCode::$op),*];

            /// Its name in errors and traces.
            pub fn name(self) -> &'static str {
                match self { $(OpCode::$op => $name,)* }
            }
        }
    };
}
op_codes! {
    AllReduceSum = "all_reduce",
    AllReduceMax = "all_reduce(max)",
    ReduceScatter = "reduce_scatter",
    AllGather = "all_gather",
    Broadcast = "broadcast",
    SendRecv = "send/recv",
    Barrier = "barrier",
    Highest = "highest",
}

impl fmt::Display for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The operation an exchange belongs to: what it checks against its peers, how long it waits, and
/// the names it puts into an error.
pub struct Call<'a> {
    /// What this rank is doing; a peer that is doing something else is a mismatch.
    pub header: Header,
    /// Where.
    pub group: &'a GroupSpec,
    /// World rank of the caller.
    pub rank: usize,
    /// Longest wait without any progress.
    pub timeout: Duration,
}

impl Call<'_> {
    /// Called at least every [`LOOK_UP`] while this rank waits for `peer`: an error once the run
    /// has ended, or nothing has moved for too long.
    pub fn patience(&self, abort: &Abort, waited: &Waited, peer: usize) -> Result<()> {
        abort.check()?;
        if waited.so_far() < self.timeout {
            return Ok(());
        }
        Err(CommError::Timeout {
            rank: self.name(self.rank),
            group: self.group.name.to_string(),
            op: self.header.op.to_string(),
            peer: self.name(peer),
            seconds: self.timeout.as_secs_f64(),
        })
    }

    /// `peer` does something else.
    pub fn mismatch(&self, peer: usize, theirs: String) -> CommError {
        CommError::Mismatch {
            rank: self.name(self.rank),
            group: self.group.name.to_string(),
            peer: self.name(peer),
            ours: self.header.to_string(),
            theirs,
        }
    }

    /// The coordinates of a world rank, for errors.
    pub fn name(&self, rank: usize) -> String {
        self.group.layout.coords(rank).to_string()
    }
}

/// For how long a rank has waited. Of the time between two looks at this clock, what is beyond a
/// second does not count: then this process did not run (it was stopped from a terminal), and
/// neither did its peers.
pub struct Waited(Cell<(Instant, Duration)>);

impl Waited {
    /// Not at all, yet.
    pub fn from_now() -> Self {
        Self(Cell::new((Instant::now(), Duration::ZERO)))
    }

    /// Looks at the clock.
    pub fn so_far(&self) -> Duration {
        let ((before, waited), now) = (self.0.get(), Instant::now());
        let waited = waited + (now - before).min(NAP);
        self.0.set((now, waited));
        waited
    }
}

#[cfg(test)]
mod tests;
