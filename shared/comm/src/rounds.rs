//! What takes log2(n) short messages: to meet, and to agree on a number.

use crate::error::Result;
use crate::ring::Ring;
use crate::transport::{Incoming, Outgoing};

impl Ring<'_> {
    /// Returns when all ranks are here: after round k, a rank has heard, directly or through
    /// others, from the 2^k before it.
    pub fn barrier(&mut self) -> Result<()> {
        self.rounds(|ring, to, from| {
            let out = Outgoing { to, bytes: &[] };
            let incoming = Incoming { from, into: &mut [], combine: None };
            ring.exchange(Some(out), Some(incoming))
        })
    }

    /// The highest of the numbers that the ranks bring. Nobody counts how often it hears of one,
    /// which is no matter to a maximum.
    pub fn highest(&mut self, mine: u64) -> Result<u64> {
        let mut highest = mine;
        self.rounds(|ring, to, from| {
            let (ours, mut theirs) = (highest.to_le_bytes(), [0; 8]);
            let out = Outgoing { to, bytes: &ours };
            let incoming = Incoming { from, into: &mut theirs, combine: None };
            ring.exchange(Some(out), Some(incoming))?;
            highest = highest.max(u64::from_le_bytes(theirs));
            Ok(())
        })?;
        Ok(highest)
    }

    /// In round k, whom to send to and whom to receive from: those 2^k places away.
    fn rounds(
        &mut self,
        mut round: impl FnMut(&mut Self, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let n = self.members.len();
        let mut distance = 1;
        while distance < n {
            let to = self.members[(self.rank + distance) % n];
            let from = self.members[(self.rank + n - distance) % n];
            round(self, to, from)?;
            distance *= 2;
        }
        Ok(())
    }
}
