//! Messages that are partly sent or received, on sockets that never block.

use super::header::{decode, encode};
use comm::reduce::Combine;
use comm::transport::{Call, Header, Incoming, Outgoing, PIECE};
use comm::{Abort, CommError, Result};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long a broken connection waits for its reason.
const REASON: Duration = Duration::from_millis(200);

/// A connection to read from, and where bytes wait to be combined.
pub(super) struct Inlet {
    pub socket: TcpStream,
    pub workspace: Vec<u8>,
}

/// One message on its way out.
pub(super) struct Sending<'a> {
    pub socket: &'a TcpStream,
    pub to: usize,
    header: [u8; Header::BYTES],
    bytes: &'a [u8],
    /// Of header and bytes together.
    sent: usize,
}

impl<'a> Sending<'a> {
    pub fn new(socket: &'a TcpStream, out: Outgoing<'a>, call: &Call) -> Self {
        Sending { socket, to: out.to, header: encode(&call.header), bytes: out.bytes, sent: 0 }
    }

    pub fn done(&self) -> bool {
        self.sent == Header::BYTES + self.bytes.len()
    }

    /// Writes what the socket takes; false if that is nothing.
    pub fn advance(&mut self, call: &Call, abort: &Abort) -> Result<bool> {
        let header = &self.header[self.sent.min(Header::BYTES)..];
        let rest = &self.bytes[self.sent.saturating_sub(Header::BYTES)..];
        let parts = [IoSlice::new(header), IoSlice::new(&rest[..rest.len().min(PIECE)])];
        let sent = moved(self.socket.write_vectored(&parts));
        let sent = sent.map_err(|e| lost(call, abort, self.to, e))?;
        self.sent += sent;
        Ok(sent > 0)
    }
}

/// One message on its way in.
pub(super) struct Receiving<'a> {
    pub socket: &'a TcpStream,
    pub from: usize,
    header: [u8; Header::BYTES],
    /// Bytes of the header that have come.
    header_read: usize,
    into: &'a mut [u8],
    /// Bytes of `into` that are complete.
    read: usize,
    combine: Option<Combine>,
    /// Where bytes wait to be combined, and how many do.
    workspace: &'a mut [u8],
    waiting: usize,
}

impl<'a> Receiving<'a> {
    pub fn new(inlet: &'a mut Inlet, incoming: Incoming<'a>) -> Self {
        if incoming.combine.is_some() {
            inlet.workspace.resize(PIECE, 0);
        }
        Receiving {
            socket: &inlet.socket,
            from: incoming.from,
            header: [0; Header::BYTES],
            header_read: 0,
            into: incoming.into,
            read: 0,
            combine: incoming.combine,
            workspace: &mut inlet.workspace,
            waiting: 0,
        }
    }

    pub fn done(&self) -> bool {
        self.header_read == Header::BYTES && self.read == self.into.len()
    }

    /// Reads what has come; false if that is nothing.
    pub fn advance(&mut self, call: &Call, abort: &Abort) -> Result<bool> {
        let left = self.into.len() - self.read;
        let place = match self.combine {
            Some(_) => &mut self.workspace[self.waiting..left.min(PIECE)],
            None => &mut self.into[self.read..][..left.min(PIECE)],
        };
        let header = &mut self.header[self.header_read..];
        let in_header = header.len();
        let parts = &mut [IoSliceMut::new(header), IoSliceMut::new(place)];
        let read = match self.socket.read_vectored(parts) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            result => moved(result),
        };
        let read = read.map_err(|e| lost(call, abort, self.from, e))?;
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
        let header = decode(&self.header);
        if header == Some(call.header) {
            return Ok(());
        }
        let theirs = header.map_or("something unknown".to_string(), |h| h.to_string());
        Err(call.mismatch(self.from, theirs))
    }

    /// Counts `new` bytes, and combines those that wait, up to the last multiple of 8: a read may
    /// end in the middle of an element.
    fn place(&mut self, new: usize) {
        let Some(combine) = self.combine else {
            self.read += new;
            return;
        };
        self.waiting += new;
        let last = self.waiting == self.into.len() - self.read;
        let ready = if last { self.waiting } else { self.waiting & !7 };
        combine(&mut self.into[self.read..][..ready], &self.workspace[..ready]);
        self.workspace.copy_within(ready..self.waiting, 0);
        self.read += ready;
        self.waiting -= ready;
    }
}

/// The connection to `peer` broke. Usually the cause is already on its way here, and says more.
pub(super) fn lost(call: &Call, abort: &Abort, peer: usize, source: io::Error) -> CommError {
    if let Some(cause) = abort.wait(REASON) {
        return CommError::Aborted { cause };
    }
    CommError::Lost {
        rank: call.name(call.rank),
        group: call.group.name.to_string(),
        op: call.header.op.to_string(),
        peer: call.name(peer),
        source,
    }
}

/// Bytes that a socket has moved: 0 where it would have to wait.
fn moved(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(e) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&e.kind()) => Ok(0),
        result => result,
    }
}

#[cfg(test)]
mod tests;
