//! What is said on a control line: one JSON object a line, and the proofs that open it.

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
    /// This rank is alive.
    Heartbeat,
    /// This rank is done, and well.
    Bye,
    /// The run is over, and why.
    End {
        cause: String,
    },
}

/// Who a rank says it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claim {
    pub rank: usize,
    /// What it was started with: see `Join::settings`.
    pub settings: Vec<String>,
    /// Where its data lines listen.
    pub port: u16,
}

/// The first setting in which a rank differs from this one: as it is there, and as it is here.
pub fn difference<'a>(theirs: &'a [String], ours: &'a [String]) -> Option<(&'a str, &'a str)> {
    // Two builds of the program may not have the same settings.
    let at = |all: &'a [String], i| all.get(i).map_or("fewer settings", String::as_str);
    let mut pairs = (0..theirs.len().max(ours.len())).map(|i| (at(theirs, i), at(ours, i)));
    pairs.find(|(theirs, ours)| theirs != ours)
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
/// suspended) does not count: afterwards the other side still has the rest of its time.
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
        let claim = Claim { rank: 1, settings: vec!["dp 2".into()], port: 9 };
        let prover = Prover::new("s");
        let proof = prover.hello(&[1; 32], &[2; 32], &claim);
        assert!(prover.is_hello(&proof, &[1; 32], &[2; 32], &claim));
        assert!(!Prover::new("t").is_hello(&proof, &[1; 32], &[2; 32], &claim));
        assert!(!prover.is_hello(&proof, &[3; 32], &[2; 32], &claim));
        let other = Claim { rank: 0, ..claim.clone() };
        assert!(!prover.is_hello(&proof, &[1; 32], &[2; 32], &other));
        let other = Claim { settings: vec!["dp 3".into()], ..claim.clone() };
        assert!(!prover.is_hello(&proof, &[1; 32], &[2; 32], &other));
        assert!(!prover.is_hello(&proof[..31], &[1; 32], &[2; 32], &claim));
        // A rank's own proof sent back to it does not make a rank 0.
        assert!(!prover.is_welcome(&proof, &[1; 32], &[2; 32]));
    }

    #[test]
    fn the_first_difference_counts() {
        let of = |text: &str| text.split(", ").map(str::to_owned).collect::<Vec<_>>();
        let (ours, theirs) = (of("dp 2, lr 1, seed 7"), of("dp 2, lr 3, seed 8"));
        assert_eq!(difference(&theirs, &ours), Some(("lr 3", "lr 1")));
        assert_eq!(difference(&ours, &ours), None);
        assert_eq!(difference(&ours[..2], &ours), Some(("fewer settings", "seed 7")));
        assert_eq!(difference(&ours, &ours[..2]), Some(("seed 7", "fewer settings")));
    }
}
