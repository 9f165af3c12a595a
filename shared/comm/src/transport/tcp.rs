//! Ranks that are processes: one connection for every stream, opened when first used.
//!
//! An exchange writes what the socket takes and reads what has come, by turns, on the caller's
//! thread. Both directions move at once, and no rank waits to send before it may receive.

use super::accept::{Inbox, introduce};
use super::{Call, Channel, Header, Incoming, LOOK_UP, Outgoing, Transport, poll};
use crate::abort::Abort;
use crate::error::{CommError, Result};
use crate::reduce::Combine;
use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most that one call of the kernel moves, so that writing and reading take turns while the bytes
/// are still in the cache.
const TURN: usize = 256 << 10;

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

/// A connection to read from, and where bytes wait to be combined.
struct Inlet {
    socket: TcpStream,
    scratch: Vec<u8>,
}

impl TcpTransport {
    /// The transport of world rank `rank`. Other ranks connect to `listener`; this one connects to
    /// `peers`, by world rank, when it first sends to them. Connections are admitted only with the
    /// run's `secret`.
    ///
    /// # Errors
    /// Where the listener or a thread cannot be set up.
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
        let since = Instant::now();
        let patience = || call.patience(&self.abort, since, to);
        let mut stream = loop {
            // Short attempts, so that the end of the run is noticed soon.
            match TcpStream::connect_timeout(&self.peers[to], Duration::from_secs(1)) {
                Ok(stream) => break stream,
                Err(e) if e.kind() == ErrorKind::TimedOut => patience()?,
                Err(e) => return Err(call.lost(to, e)),
            }
        };
        let hello = introduce(&mut stream, &self.secret, channel, self.rank, to, patience)?;
        hello
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| stream.set_nonblocking(true))
            .map_err(|e| call.lost(to, e))?;
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
        let (mut outlet, mut inlet) = (None, None);
        if let Some(Outgoing { to, .. }) = out {
            let connect = || self.connect(channel, to, call);
            outlet = Some(get_or_make(&self.outgoing, (channel, to), connect)?);
        }
        if let Some(Incoming { from, .. }) = from {
            let since = Instant::now();
            let patience = || call.patience(&self.abort, since, from);
            let arrive = || {
                let socket = self.inbox.take(channel, from, patience)?;
                Ok(Inlet { socket, scratch: Vec::new() })
            };
            inlet = Some(get_or_make(&self.incoming, (channel, from), arrive)?);
        }
        let (outlet, mut inlet) = (outlet.as_ref().map(lock), inlet.as_ref().map(lock));
        let mut sending =
            out.zip(outlet.as_deref()).map(|(out, socket)| Sending::new(socket, out, call));
        let mut receiving =
            from.zip(inlet.as_deref_mut()).map(|(incoming, inlet)| Receiving::new(inlet, incoming));

        let mut since = Instant::now();
        loop {
            let mut moved = false;
            if let Some(sending) = sending.as_mut().filter(|s| !s.done()) {
                moved |= sending.advance(call)?;
            }
            if let Some(receiving) = receiving.as_mut().filter(|r| !r.done()) {
                moved |= receiving.advance(call)?;
            }
            let write = sending.as_ref().filter(|s| !s.done());
            let read = receiving.as_ref().filter(|r| !r.done());
            let Some(peer) = read.map(|r| r.from).or(write.map(|w| w.to)) else {
                return Ok(());
            };
            if moved {
                since = Instant::now();
            } else {
                call.patience(&self.abort, since, peer)?;
                let read = read.map(|r| r.socket.as_raw_fd());
                poll::ready(read, write.map(|w| w.socket.as_raw_fd()), LOOK_UP);
            }
        }
    }
}

/// One message on its way out.
struct Sending<'a> {
    socket: &'a TcpStream,
    to: usize,
    header: [u8; Header::BYTES],
    bytes: &'a [u8],
    /// Of header and bytes together.
    sent: usize,
}

impl<'a> Sending<'a> {
    fn new(socket: &'a TcpStream, out: Outgoing<'a>, call: &Call) -> Self {
        Sending { socket, to: out.to, header: call.header.encode(), bytes: out.bytes, sent: 0 }
    }

    fn done(&self) -> bool {
        self.sent == Header::BYTES + self.bytes.len()
    }

    /// Writes what the socket takes; false if that is nothing.
    fn advance(&mut self, call: &Call) -> Result<bool> {
        let header = &self.header[self.sent.min(Header::BYTES)..];
        let rest = &self.bytes[self.sent.saturating_sub(Header::BYTES)..];
        let parts = [IoSlice::new(header), IoSlice::new(&rest[..rest.len().min(TURN)])];
        let sent = moved(self.socket.write_vectored(&parts));
        let sent = sent.map_err(|e| call.lost(self.to, e))?;
        self.sent += sent;
        Ok(sent > 0)
    }
}

/// One message on its way in.
struct Receiving<'a> {
    socket: &'a TcpStream,
    from: usize,
    header: [u8; Header::BYTES],
    /// Bytes of the header that have come.
    header_read: usize,
    into: &'a mut [u8],
    /// Bytes of `into` that are complete.
    read: usize,
    combine: Option<Combine>,
    /// Where bytes wait to be combined, and how many do.
    scratch: &'a mut [u8],
    waiting: usize,
}

impl<'a> Receiving<'a> {
    fn new(inlet: &'a mut Inlet, incoming: Incoming<'a>) -> Self {
        if incoming.combine.is_some() {
            inlet.scratch.resize(TURN, 0);
        }
        Receiving {
            socket: &inlet.socket,
            from: incoming.from,
            header: [0; Header::BYTES],
            header_read: 0,
            into: incoming.into,
            read: 0,
            combine: incoming.combine,
            scratch: &mut inlet.scratch,
            waiting: 0,
        }
    }

    fn done(&self) -> bool {
        self.header_read == Header::BYTES && self.read == self.into.len()
    }

    /// Reads what has come; false if that is nothing.
    fn advance(&mut self, call: &Call) -> Result<bool> {
        let left = self.into.len() - self.read;
        let place = match self.combine {
            Some(_) => &mut self.scratch[self.waiting..left.min(TURN)],
            None => &mut self.into[self.read..][..left.min(TURN)],
        };
        let header = &mut self.header[self.header_read..];
        let in_header = header.len();
        let parts = &mut [IoSliceMut::new(header), IoSliceMut::new(place)];
        let read = match self.socket.read_vectored(parts) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            result => moved(result),
        };
        let read = read.map_err(|e| call.lost(self.from, e))?;
        if in_header > 0 {
            self.header_read += read.min(in_header);
            if self.header_read < Header::BYTES {
                return Ok(read > 0);
            }
            self.check(call)?;
        }
        self.place(read.saturating_sub(in_header));
        Ok(read > 0)
    }

    fn check(&self, call: &Call) -> Result<()> {
        let header = Header::decode(&self.header);
        if header == Some(call.header) {
            return Ok(());
        }
        let theirs = header.map_or("something unknown".to_string(), |h| h.to_string());
        Err(call.mismatch(self.from, theirs))
    }

    /// Takes note of `new` bytes, and combines those that wait, up to the last multiple of 8: the
    /// network does not respect the borders of elements.
    fn place(&mut self, new: usize) {
        let Some(combine) = self.combine else {
            self.read += new;
            return;
        };
        self.waiting += new;
        let last = self.waiting == self.into.len() - self.read;
        let ready = if last { self.waiting } else { self.waiting & !7 };
        combine(&mut self.into[self.read..][..ready], &self.scratch[..ready]);
        self.scratch.copy_within(ready..self.waiting, 0);
        self.read += ready;
        self.waiting -= ready;
    }
}

/// Bytes that a socket has moved: none where it would have to wait.
fn moved(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(e) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind()) => Ok(0),
        result => result,
    }
}

/// The connection under `key`, or a new one. The table is not locked while one is made.
fn get_or_make<K: Eq + Hash, T>(
    connections: &Mutex<HashMap<K, Arc<Mutex<T>>>>,
    key: K,
    make: impl FnOnce() -> Result<T>,
) -> Result<Arc<Mutex<T>>> {
    let table = || connections.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(connection) = table().get(&key) {
        return Ok(connection.clone());
    }
    let connection = Arc::new(Mutex::new(make()?));
    table().insert(key, connection.clone());
    Ok(connection)
}

fn lock<T>(connection: &Arc<Mutex<T>>) -> MutexGuard<'_, T> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}
