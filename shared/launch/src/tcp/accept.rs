//! How a TCP connection between two ranks begins, at both ends.
//!
//! The acceptor sends 32 random bytes. The connecting rank answers with a hello, which says what
//! the connection is for, and with a code that takes the run's secret to compute from both. A
//! connection that answers wrongly, or not at all, is dropped, and no other is affected.

use crate::secret::nonce;
use comm::sync::{lock, wait_timeout};
use comm::transport::{Channel, LOOK_UP};
use comm::{CommError, Result};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long a connection may take to say what it is for.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that may be greeted at once; others wait until one of these is done or has
/// run out of time.
const GREETED: usize = 64;

/// For how long the system may refuse a connection (too many files are open) before that is an
/// error: a file may be closed again.
pub(crate) const LASTING: Duration = Duration::from_secs(2);

const NONCE: usize = 32;
const HELLO: usize = 16;
const CODE: usize = 32;

/// Connections that have said their hello, by channel and sender.
pub(super) struct Inbox {
    /// This rank, in the world.
    rank: usize,
    secret: [u8; 32],
    arrived: Mutex<HashMap<(Channel, usize), TcpStream>>,
    more: Condvar,
    /// Connections that are being greeted.
    greeted: AtomicUsize,
    /// Since when none could be accepted, and the system's error.
    trouble: Mutex<Option<(Instant, i32)>>,
    pub closed: AtomicBool,
}

impl Inbox {
    /// Starts to accept connections, on a thread that ends when the inbox is closed.
    pub fn open(rank: usize, listener: TcpListener, secret: [u8; 32]) -> io::Result<Arc<Inbox>> {
        let inbox = Arc::new(Inbox {
            rank,
            secret,
            arrived: Mutex::default(),
            more: Condvar::new(),
            greeted: AtomicUsize::new(0),
            trouble: Mutex::default(),
            closed: AtomicBool::new(false),
        });
        listener.set_nonblocking(true)?;
        let accept = {
            let inbox = inbox.clone();
            move || inbox.accept(&listener)
        };
        thread::Builder::new().name(format!("accept {rank}")).spawn(accept)?;
        Ok(inbox)
    }

    /// Waits for the connection on which `from` sends over `channel`.
    pub fn take(
        &self,
        channel: Channel,
        from: usize,
        patience: impl Fn() -> Result<()>,
    ) -> Result<TcpStream> {
        let mut arrived = lock(&self.arrived);
        loop {
            if let Some(stream) = arrived.remove(&(channel, from)) {
                return Ok(stream);
            }
            patience()?;
            self.check()?;
            arrived = wait_timeout(&self.more, arrived, LOOK_UP);
        }
    }

    /// That no connection can be accepted is an error once it lasts.
    fn check(&self) -> Result<()> {
        match *lock(&self.trouble) {
            Some((since, code)) if since.elapsed() > LASTING => Err(CommError::Setup {
                what: format!("rank {} cannot accept connections (`ulimit -n`?)", self.rank),
                source: io::Error::from_raw_os_error(code),
            }),
            _ => Ok(()),
        }
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while !self.closed.load(Relaxed) {
            if self.greeted.load(Relaxed) >= GREETED {
                thread::sleep(LOOK_UP);
                continue;
            }
            match listener.accept() {
                Ok((stream, _)) => {
                    *lock(&self.trouble) = None;
                    // On a thread of its own, so that a silent connection holds up no other.
                    let inbox = self.clone();
                    let place = Place::take(&self);
                    let greet = move || {
                        let _place = place;
                        if let Ok((key, stream)) = inbox.greet(stream) {
                            lock(&inbox.arrived).insert(key, stream);
                            inbox.more.notify_all();
                        }
                    };
                    // Without a thread the connection is dropped, which its other end reports.
                    let _ = thread::Builder::new().name("greet".into()).spawn(greet);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    super::poll::readable(listener, LOOK_UP);
                }
                // Too many files are open, for instance. The connection waits in the system's
                // queue meanwhile.
                Err(e) => {
                    let trouble = (Instant::now(), e.raw_os_error().unwrap_or(0));
                    lock(&self.trouble).get_or_insert(trouble);
                    thread::sleep(LOOK_UP);
                }
            }
        }
    }

    fn greet(&self, mut stream: TcpStream) -> io::Result<((Channel, usize), TcpStream)> {
        stream.set_nonblocking(false)?;
        let nonce = nonce().map_err(io::Error::other)?;
        stream.write_all(&nonce)?;
        let mut answer = [0; HELLO + CODE];
        read_within(&mut stream, &mut answer, HELLO_TIMEOUT)?;
        let (hello, code) = answer.split_at(HELLO);
        // Compares in constant time.
        let genuine = code_of(&self.secret, &nonce, hello).verify_slice(code);
        genuine.map_err(|_| ErrorKind::PermissionDenied)?;
        let word = |i: usize| u32::from_le_bytes(std::array::from_fn(|byte| hello[4 * i + byte]));
        let (group, lane, from, to) = (word(0), word(1), word(2), word(3));
        if to as usize != self.rank {
            return Err(ErrorKind::InvalidData.into());
        }
        stream.set_nonblocking(true)?;
        Ok(((Channel { group, lane }, from as usize), stream))
    }
}

/// A connection's place among those that are greeted, free again when dropped.
struct Place(Arc<Inbox>);

impl Place {
    fn take(inbox: &Arc<Inbox>) -> Self {
        inbox.greeted.fetch_add(1, Relaxed);
        Self(inbox.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.greeted.fetch_sub(1, Relaxed);
    }
}

/// Fills `buffer` within `limit`, however small the pieces in which its bytes come.
fn read_within(stream: &mut TcpStream, buffer: &mut [u8], limit: Duration) -> io::Result<()> {
    let since = Instant::now();
    let mut filled = 0;
    while filled < buffer.len() {
        let left = limit.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Says what a new connection is for. `patience` is called while the other end does not answer.
pub(super) fn introduce(
    stream: &mut TcpStream,
    secret: &[u8; 32],
    channel: Channel,
    from: usize,
    to: usize,
    patience: impl Fn() -> Result<()>,
) -> Result<io::Result<()>> {
    let mut nonce = [0; NONCE];
    let mut read = 0;
    if let Err(e) = stream.set_read_timeout(Some(LOOK_UP)) {
        return Ok(Err(e));
    }
    while read < NONCE {
        match stream.read(&mut nonce[read..]) {
            Ok(0) => return Ok(Err(ErrorKind::UnexpectedEof.into())),
            Ok(n) => read += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => {
                patience()?;
            }
            Err(e) => return Ok(Err(e)),
        }
    }
    let mut hello = Vec::with_capacity(HELLO + CODE);
    for word in [channel.group, channel.lane, from as u32, to as u32] {
        hello.extend_from_slice(&word.to_le_bytes());
    }
    let code = code_of(secret, &nonce, &hello).finalize().into_bytes();
    hello.extend_from_slice(&code);
    Ok(stream.write_all(&hello))
}

fn code_of(secret: &[u8; 32], nonce: &[u8], hello: &[u8]) -> Hmac<Sha256> {
    let mut code = Hmac::new_from_slice(secret).expect("any key length will do");
    code.update(nonce);
    code.update(hello);
    code
}

#[cfg(test)]
mod tests;
