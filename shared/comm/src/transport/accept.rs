//! How a TCP connection between two ranks begins, at both ends.
//!
//! The acceptor sends 32 random bytes. The connecting rank answers with a hello, which says what
//! the connection is for, and with a code that only somebody who has the run's secret can compute
//! from both. Whoever answers wrongly, or not at all, is dropped and nobody else notices.

use super::{Channel, LOOK_UP};
use crate::error::Result;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a connection may take to say what it is for.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

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
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(stream) = arrived.remove(&(channel, from)) {
                return Ok(stream);
            }
            patience()?;
            let woken = self.more.wait_timeout(arrived, LOOK_UP);
            arrived = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        while !self.closed.load(Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    // On a thread of its own, so that one that says nothing holds up nobody.
                    let inbox = self.clone();
                    let greet = move || {
                        if let Ok((key, stream)) = inbox.greet(stream) {
                            let arrived = inbox.arrived.lock();
                            let mut arrived = arrived.unwrap_or_else(PoisonError::into_inner);
                            arrived.insert(key, stream);
                            inbox.more.notify_all();
                        }
                    };
                    // Without a thread the connection is dropped, which its other end reports.
                    let _ = thread::Builder::new().name("greet".into()).spawn(greet);
                }
                Err(_) => super::poll::readable(listener, LOOK_UP),
            }
        }
    }

    fn greet(&self, mut stream: TcpStream) -> io::Result<((Channel, usize), TcpStream)> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        stream.write_all(&nonce)?;
        let (mut hello, mut code) = ([0; HELLO], [0; CODE]);
        stream.read_exact(&mut hello)?;
        stream.read_exact(&mut code)?;
        // Compares in constant time.
        let genuine = code_of(&self.secret, &nonce, &hello).verify_slice(&code);
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

/// Says what a new connection is for. `patience` is asked while the other end does not answer.
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
