//! Ranks that are processes: one connection for every stream, opened when first used.
//!
//! An exchange alternates, on the caller's thread, between writing what the socket takes and
//! reading what has come. So both directions move at once, and no rank has to finish sending before
//! it can receive.

mod accept;
mod header;
mod message;
mod poll;

pub(crate) use accept::LASTING;

use accept::{Inbox, introduce};
use comm::sync::lock;
use comm::transport::{Call, Channel, Incoming, LOOK_UP, Outgoing, Transport, Waited};
use comm::{Abort, CommError, Result};
use message::{Inlet, Receiving, Sending, lost};
use std::collections::HashMap;
use std::hash::Hash;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Times to yield the core before going to sleep. There may be more ranks than cores, and then it
/// is often the awaited rank that gets the core, for less than sleeping and being woken costs.
const YIELDS: usize = 20;

/// A transport over TCP.
pub struct TcpTransport {
    rank: usize,
    peers: Vec<SocketAddr>,
    secret: [u8; 32],
    abort: Abort,
    inbox: Arc<Inbox>,
    outgoing: Connections<TcpStream>,
    incoming: Connections<Inlet>,
}

/// By channel and peer.
type Connections<T> = Mutex<HashMap<(Channel, usize), Arc<Mutex<T>>>>;

impl TcpTransport {
    /// The transport of world rank `rank`. Other ranks connect to `listener`; this one connects to
    /// `peers`, by world rank, when it first sends to them. Connections are admitted only with the
    /// run's `secret`.
    ///
    /// # Errors
    /// If the listener or a thread cannot be set up.
    pub fn new(
        rank: usize,
        listener: TcpListener,
        peers: Vec<SocketAddr>,
        secret: [u8; 32],
        abort: Abort,
    ) -> Result<Arc<Self>> {
        let what = || format!("rank {rank} cannot accept connections from other ranks");
        let inbox = Inbox::open(rank, listener, secret);
        let inbox = inbox.map_err(|source| CommError::Setup { what: what(), source })?;
        Ok(Arc::new(TcpTransport {
            rank,
            peers,
            secret,
            abort,
            inbox,
            outgoing: Mutex::default(),
            incoming: Mutex::default(),
        }))
    }

    /// A new connection to `to`.
    fn connect(&self, channel: Channel, to: usize, call: &Call) -> Result<TcpStream> {
        let waited = Waited::from_now();
        let patience = || call.patience(&self.abort, &waited, to);
        let mut stream = loop {
            // Short attempts, so that the end of the run is noticed soon.
            match TcpStream::connect_timeout(&self.peers[to], Duration::from_secs(1)) {
                Ok(stream) => break stream,
                Err(e) if e.kind() == ErrorKind::TimedOut => patience()?,
                Err(e) => return Err(lost(call, &self.abort, to, e)),
            }
        };
        let hello = introduce(&mut stream, &self.secret, channel, self.rank, to, patience)?;
        hello
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| stream.set_nonblocking(true))
            .map_err(|e| lost(call, &self.abort, to, e))?;
        Ok(stream)
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.inbox.closed.store(true, Relaxed);
    }
}

impl Transport for TcpTransport {
    fn exchange(
        &self,
        channel: Channel,
        out: Option<Outgoing>,
        from: Option<Incoming>,
        call: &Call,
    ) -> Result<()> {
        // A call that failed may have left half of a message in its streams.
        self.abort.check()?;
        let (mut outlet, mut inlet) = (None, None);
        if let Some(Outgoing { to, .. }) = out {
            let connect = || self.connect(channel, to, call);
            outlet = Some(get_or_make(&self.outgoing, (channel, to), connect)?);
        }
        if let Some(Incoming { from, .. }) = from {
            let waited = Waited::from_now();
            let patience = || call.patience(&self.abort, &waited, from);
            let arrive = || {
                let socket = self.inbox.take(channel, from, patience)?;
                Ok(Inlet { socket, workspace: Vec::new() })
            };
            inlet = Some(get_or_make(&self.incoming, (channel, from), arrive)?);
        }
        let (outlet, mut inlet) = (outlet.as_deref().map(lock), inlet.as_deref().map(lock));
        let mut sending =
            out.zip(outlet.as_deref()).map(|(out, socket)| Sending::new(socket, out, call));
        let mut receiving =
            from.zip(inlet.as_deref_mut()).map(|(incoming, inlet)| Receiving::new(inlet, incoming));

        let mut waited = Waited::from_now();
        let mut yields = 0;
        loop {
            let mut moved = false;
            if let Some(sending) = sending.as_mut().filter(|s| !s.done()) {
                moved |= sending.advance(call, &self.abort)?;
            }
            if let Some(receiving) = receiving.as_mut().filter(|r| !r.done()) {
                moved |= receiving.advance(call, &self.abort)?;
            }
            let write = sending.as_ref().filter(|s| !s.done());
            let read = receiving.as_ref().filter(|r| !r.done());
            let Some(peer) = read.map(|r| r.from).or(write.map(|w| w.to)) else {
                return Ok(());
            };
            if moved {
                waited = Waited::from_now();
                yields = 0;
            } else if yields < YIELDS {
                yields += 1;
                thread::yield_now();
            } else {
                call.patience(&self.abort, &waited, peer)?;
                let read = read.map(|r| r.socket.as_raw_fd());
                poll::ready(read, write.map(|w| w.socket.as_raw_fd()), LOOK_UP);
            }
        }
    }
}

/// The connection under `key`, or a new one. The table is not locked while one is made.
fn get_or_make<K: Eq + Hash, T>(
    connections: &Mutex<HashMap<K, Arc<Mutex<T>>>>,
    key: K,
    make: impl FnOnce() -> Result<T>,
) -> Result<Arc<Mutex<T>>> {
    let table = || lock(connections);
    if let Some(connection) = table().get(&key) {
        return Ok(connection.clone());
    }
    let connection = Arc::new(Mutex::new(make()?));
    table().insert(key, connection.clone());
    Ok(connection)
}
