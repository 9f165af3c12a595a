//! What is said on a control line: one JSON object a line, and the proofs that open it.

use crate::layout::Layout;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

#[derive(Debug, Serialize, Deserialize)]
pub enum Frame {
    /// Rank 0 speaks first; the answer must be made for this nonce.
    Challenge {
        nonce: [u8; 32],
    },
    Hello {
        claim: Claim,
        nonce: [u8; 32],
        proof: [u8; 32],
    },
    /// Proves that rank 0 knows the secret too.
    Welcome {
        proof: [u8; 32],
    },
    Refused {
        why: String,
    },
    /// All have come. `run` makes the key of the data lines another in every run.
    Peers {
        addresses: Vec<SocketAddr>,
        run: [u8; 32],
    },
    Beat,
    /// This rank is done, and well.
    Bye,
    /// The run is over, and why.
    End {
        cause: String,
    },
}

/// Who a rank says it is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Claim {
    pub rank: usize,
    /// dp, pp, cp, tp.
    pub layout: [usize; 4],
    /// Where its data lines listen.
    pub port: u16,
}

pub fn sizes(layout: Layout) -> [usize; 4] {
    [layout.dp, layout.pp, layout.cp, layout.tp]
}

/// HMAC-SHA256 with the run's secret: proves knowledge of it without sending it.
pub struct Prover(Hmac<Sha256>);

impl Prover {
    pub fn new(secret: &str) -> Self {
        Self(Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length"))
    }

    /// What a rank answers to a challenge.
    pub fn hello(&self, challenge: &[u8; 32], nonce: &[u8; 32], claim: &Claim) -> [u8; 32] {
        self.mac("hello", &[challenge, nonce], Some(claim)).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub fn is_hello(
        &self,
        proof: &[u8],
        challenge: &[u8; 32],
        nonce: &[u8; 32],
        claim: &Claim,
    ) -> bool {
        self.mac("hello", &[challenge, nonce], Some(claim)).verify_slice(proof).is_ok()
    }

    /// What rank 0 answers to a hello.
    pub fn welcome(&self, challenge: &[u8; 32], nonce: &[u8; 32]) -> [u8; 32] {
        self.mac("welcome", &[challenge, nonce], None).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    pub fn is_welcome(&self, proof: &[u8], challenge: &[u8; 32], nonce: &[u8; 32]) -> bool {
        self.mac("welcome", &[challenge, nonce], None).verify_slice(proof).is_ok()
    }

    /// The secret of this run's data lines.
    pub fn key(&self, run: &[u8; 32]) -> [u8; 32] {
        self.mac("data", &[run], None).finalize().into_bytes().into()
    }

    /// The purpose comes first, so that a proof made for one serves no other.
    fn mac(&self, purpose: &str, nonces: &[&[u8; 32]], claim: Option<&Claim>) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        let text = serde_json::to_vec(&(purpose, nonces, claim)).expect("plain data serialises");
        mac.update(&text);
        mac
    }
}

/// 32 bytes from the operating system.
pub fn nonce() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| anyhow::anyhow!("the operating system gives no random bytes: {e}"))?;
    Ok(bytes)
}

/// A writer must not hang on a peer that has stopped reading.
pub const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Longest sleep of a reader.
const NAP: Duration = Duration::from_secs(1);

pub fn write(mut stream: &TcpStream, frame: &Frame) -> io::Result<()> {
    let mut line = serde_json::to_vec(frame)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// The next frame, of at most `most` bytes. Gives up when it has waited for `limit`.
///
/// Time during which this process itself did not run (stopped from a terminal, a host that was
/// suspended) is not waiting: afterwards the other side gets its chance to speak.
pub fn read(reader: &mut BufReader<TcpStream>, limit: Duration, most: usize) -> io::Result<Frame> {
    let mut left = limit;
    let mut line = Vec::new();
    loop {
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        let nap = left.min(NAP);
        reader.get_ref().set_read_timeout(Some(nap))?;
        let asleep = Instant::now();
        let read = reader.fill_buf();
        left = left.saturating_sub(asleep.elapsed().min(nap));
        let piece = match read {
            Ok([]) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(piece) => piece,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let newline = piece.iter().position(|&b| b == b'\n');
        let used = newline.unwrap_or(piece.len());
        if line.len() + used > most {
            return Err(ErrorKind::InvalidData.into());
        }
        line.extend_from_slice(&piece[..used]);
        reader.consume(newline.map_or(used, |n| n + 1));
        if newline.is_some() {
            return Ok(serde_json::from_slice(&line)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_serves_one_secret_one_challenge_and_one_claim() {
        let (prover, claim) = (Prover::new("s"), Claim { rank: 1, layout: [2, 1, 1, 1], port: 9 });
        let proof = prover.hello(&[1; 32], &[2; 32], &claim);
        assert!(prover.is_hello(&proof, &[1; 32], &[2; 32], &claim));
        assert!(!Prover::new("t").is_hello(&proof, &[1; 32], &[2; 32], &claim));
        assert!(!prover.is_hello(&proof, &[3; 32], &[2; 32], &claim));
        assert!(!prover.is_hello(&proof, &[1; 32], &[2; 32], &Claim { rank: 0, ..claim }));
        assert!(!prover.is_hello(&proof[..31], &[1; 32], &[2; 32], &claim));
        // A rank's own proof sent back to it does not make a rank 0.
        assert!(!prover.is_welcome(&proof, &[1; 32], &[2; 32]));
    }
}
