//! The lines between rank 0 and every other rank, after all have met.
//!
//! Each side says `Heartbeat` once a second. A line that closes without a `Bye`, or stays silent,
//! means that its rank has died or hangs; rank 0 then tells every rank why the run is over. Rank 0
//! decides which cause was first, so that all ranks name the same.

use super::wire::{self, Frame};
use anyhow::anyhow;
use comm::Abort;
use comm::sync::{lock, start, wait_timeout};
use std::io::{self, BufReader, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Longest line after the greeting: a list of all ranks' addresses, or a cause.
const MOST: usize = 16 << 20;

/// One process's end of the control lines.
#[derive(Clone)]
pub(crate) struct Control(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub rank: usize,
    /// "rank dp0 pp0 cp0 tp1", by rank.
    pub names: Vec<String>,
    pub silence: Duration,
    /// Ends this process's part of the run.
    pub abort: Abort,
    /// Raised with the cause that rank 0 has settled on.
    pub told: Abort,
    pub state: Mutex<State>,
    pub changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// By rank; rank 0 has one to every other rank, the others one to rank 0.
    pub lines: Vec<Option<Line>>,
    /// The list of addresses and the run's nonce, once they are known.
    pub peers: Option<(Vec<SocketAddr>, [u8; 32])>,
    /// Nothing more will be said.
    pub closed: bool,
}

impl State {
    fn say(&self, frame: &Frame) {
        for line in self.lines.iter().flatten() {
            // A line that is broken is its reader's business.
            let _ = wire::write(&line.stream, frame);
        }
    }
}

pub(super) struct Line {
    pub stream: TcpStream,
    /// Where the rank's data lines listen.
    pub data: SocketAddr,
    pub bye: bool,
}

impl Control {
    /// # Errors
    /// If there is no thread for the heartbeat.
    pub(super) fn new(join: &super::Join) -> anyhow::Result<Self> {
        let world = join.layout.world();
        let lines = (0..world).map(|_| None).collect();
        let control = Control(Arc::new(Shared {
            rank: join.rank,
            names: (0..world).map(|rank| join.name(rank)).collect(),
            silence: join.silence,
            abort: join.abort.clone(),
            told: Abort::new(),
            state: Mutex::new(State { lines, ..State::default() }),
            changed: Condvar::new(),
        }));
        let beating = control.clone();
        start("send heartbeats", move || beating.send_heartbeats())?;
        Ok(control)
    }

    /// The cause that rank 0 has settled on; waits for it at most `limit`.
    pub fn told(&self, limit: Duration) -> Option<String> {
        self.0.told.wait(limit)
    }

    /// Tells every rank that the run is over because of this one.
    pub fn fail(&self, cause: &str) {
        self.0.abort.raise(cause);
        if self.0.rank == 0 {
            return self.end(cause);
        }
        self.broadcast(&Frame::End { cause: cause.into() });
        // Once rank 0 has repeated it, it is not lost if this process exits.
        self.told(WORD);
    }

    /// Says that this rank is done and returns when all ranks are, so that no rank's early end is
    /// taken for its death.
    ///
    /// # Errors
    /// Another rank's failure, or those who were not done within `limit`, which rank 0 alone watches.
    pub fn goodbye(&self, limit: Duration) -> anyhow::Result<()> {
        let shared = &*self.0;
        if shared.rank != 0 {
            self.broadcast(&Frame::Bye);
        }
        let since = Instant::now();
        let mut state = shared.lock();
        loop {
            if let Some(cause) = shared.told.cause() {
                return Err(anyhow!(cause));
            }
            let done = |line: &Option<Line>| line.as_ref().is_none_or(|line| line.bye);
            if state.lines.iter().all(done) {
                break;
            }
            let left = limit.saturating_sub(since.elapsed());
            if shared.rank == 0 && left.is_zero() {
                let names = shared.names.iter().zip(&state.lines);
                let late: Vec<_> =
                    names.filter(|(_, line)| !done(line)).map(|(n, _)| &**n).collect();
                let seconds = limit.as_secs_f64();
                let cause =
                    format!("{} did not finish within {seconds} s of rank 0", late.join(", "));
                drop(state);
                self.fail(&cause);
                return Err(anyhow!(cause));
            }
            // The others are woken by what they hear; rank 0 also watches the time.
            let nap = if shared.rank == 0 { left.min(HEARTBEAT) } else { HEARTBEAT };
            state = wait_timeout(&shared.changed, state, nap);
        }
        drop(state);
        if shared.rank == 0 {
            self.broadcast(&Frame::Bye);
        }
        Ok(())
    }

    /// Nothing more is said or heard.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        for line in state.lines.iter_mut().flatten() {
            line.bye = true;
            let _ = line.stream.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Rank 0: settles on a cause and tells every rank. Later causes are consequences.
    pub(super) fn end(&self, cause: &str) {
        // Under one lock: this rank's own code may leave as soon as it hears of it, and would
        // close the lines.
        let state = self.0.lock();
        self.0.told.raise(cause);
        let first = self.0.told.cause().unwrap_or_default();
        state.say(&Frame::End { cause: first });
        drop(state);
        self.0.abort.raise(cause);
        self.0.changed.notify_all();
    }

    pub(super) fn broadcast(&self, frame: &Frame) {
        self.0.lock().say(frame);
    }

    fn send_heartbeats(&self) {
        while !self.is_closed() {
            self.broadcast(&Frame::Heartbeat);
            thread::sleep(HEARTBEAT);
        }
    }

    /// Listens to `peer` until its line closes.
    pub(super) fn listen(&self, peer: usize, mut reader: BufReader<TcpStream>) {
        let shared = &*self.0;
        loop {
            match wire::read(&mut reader, shared.silence, MOST) {
                Ok(Frame::Heartbeat) => {}
                Ok(Frame::Bye) => {
                    if let Some(line) = &mut shared.lock().lines[peer] {
                        line.bye = true;
                    }
                }
                Ok(Frame::Peers { addresses, run }) => shared.lock().peers = Some((addresses, run)),
                Ok(Frame::End { cause }) => self.settle(&cause),
                Ok(_) => self.settle(&self.gone(peer, &ErrorKind::InvalidData.into())),
                Err(error) => {
                    let bye = shared.lock().lines[peer].as_ref().is_some_and(|line| line.bye);
                    if !bye {
                        self.settle(&self.gone(peer, &error));
                    }
                    return;
                }
            }
            shared.changed.notify_all();
        }
    }

    fn settle(&self, cause: &str) {
        if self.0.rank == 0 {
            return self.end(cause);
        }
        self.0.told.raise(cause);
        self.0.abort.raise(cause);
        self.0.changed.notify_all();
    }

    fn gone(&self, peer: usize, error: &io::Error) -> String {
        let name = &self.0.names[peer];
        match error.kind() {
            ErrorKind::TimedOut => {
                let seconds = self.0.silence.as_secs_f64();
                format!("{name} has been silent for {seconds} s: it was stopped, or its host hangs")
            }
            ErrorKind::InvalidData => {
                format!("{name} sent something unintelligible on its control line")
            }
            _ => format!(
                "{name} has died: its control line closed without a goodbye, so it was probably killed"
            ),
        }
    }
}

/// How long a rank that suspects another waits for the word of rank 0, which knows better.
pub(crate) const WORD: Duration = Duration::from_secs(1);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
