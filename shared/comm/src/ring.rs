//! Ring collectives, on bytes.
//!
//! The n ranks stand in a circle; each sends to its right neighbour and receives from its left. A
//! buffer of S bytes is cut into n chunks. In a reduce-scatter every chunk goes round the circle
//! once and collects each rank's share on the way; it ends, complete, on the rank of its own
//! number. In an all-gather the complete chunks go round once more, and everybody keeps a copy.
//! The two together are an all-reduce: 2(n-1)/n·S bytes from each rank, the least there is where
//! only ranks add.
//!
//! Long buffers go round in pieces that fit the cache: what is received is still in it when sent on.

use crate::error::Result;
use crate::reduce::Combine;
use crate::transport::{Call, Channel, Incoming, Outgoing, PIECE, Transport};
use std::ops::Range;

/// Chunk `c` of the `n` into which `numel` elements are cut, of nearly equal length.
pub(crate) fn chunk(numel: usize, c: usize, n: usize) -> Range<usize> {
    numel * c / n..numel * (c + 1) / n
}

/// Cuts `length` bytes into `parts` of equal length.
fn cut(length: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let part = length / parts;
    (0..parts).map(move |i| i * part..(i + 1) * part)
}

/// Bytes that rank `rank` of `n` sends in a ring to sum `numel` elements of `width` bytes: all
/// chunks but its own, then all but its right neighbour's. A library may use another algorithm, and
/// a switch may add; where only ranks add, this is the minimum, up to rounding.
pub fn all_reduce_bytes(numel: usize, width: usize, rank: usize, n: usize) -> u64 {
    let kept = |c: usize| chunk(numel, c, n).len();
    let sent = if n == 1 { 0 } else { 2 * numel - kept(rank) - kept((rank + 1) % n) };
    (sent * width) as u64
}

/// One collective call on one rank.
pub(crate) struct Ring<'a> {
    pub transport: &'a dyn Transport,
    /// World ranks, in ring order.
    pub members: &'a [usize],
    /// This rank's place among them.
    pub rank: usize,
    pub channel: Channel,
    pub call: Call<'a>,
    /// Bytes sent so far, headers not counted.
    pub sent: u64,
}

impl Ring<'_> {
    /// Combines `data` over all ranks, in place. Elements are `width` bytes long.
    ///
    /// Rank r sends `2·S - |chunk r| - |chunk r+1|` bytes.
    pub fn all_reduce(&mut self, data: &mut [u8], width: usize, combine: Combine) -> Result<()> {
        for chunks in self.pieces(data.len() / width, width) {
            self.reduce_scatter_in_place(data, &chunks, combine)?;
            self.all_gather_in_place(data, &chunks)?;
        }
        Ok(())
    }

    /// Combines `input` over all ranks and leaves chunk r on rank r, in `output`, an n-th as long.
    /// `input` is made of `strips` of equal length, each with a part of every chunk.
    ///
    /// Sends (n-1)/n·S bytes.
    pub fn reduce_scatter(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        strips: usize,
        width: usize,
        combine: Combine,
    ) -> Result<()> {
        let mut at = 0; // in `output`
        let mut workspace = Vec::new(); // the chunks of one piece: partial sums must not spoil the input
        for strip in cut(input.len(), strips) {
            let input = &input[strip];
            for chunks in self.pieces(input.len() / width, width) {
                workspace.clear();
                let mut packed = Vec::with_capacity(chunks.len());
                for chunk in chunks {
                    let start = workspace.len();
                    workspace.extend_from_slice(&input[chunk]);
                    packed.push(start..workspace.len());
                }
                self.reduce_scatter_in_place(&mut workspace, &packed, combine)?;
                let own = &workspace[packed[self.rank].clone()];
                output[at..at + own.len()].copy_from_slice(own);
                at += own.len();
            }
        }
        Ok(())
    }

    /// Fills `data` with the chunks of all ranks, where rank r has put chunk r in its place.
    /// `data` is made of `strips` of equal length, each with a part of every chunk.
    ///
    /// Rank r sends `S - |chunk r+1|` bytes, S the length of the whole.
    pub fn all_gather(&mut self, data: &mut [u8], strips: usize, width: usize) -> Result<()> {
        for strip in cut(data.len(), strips) {
            let data = &mut data[strip];
            for chunks in self.pieces(data.len() / width, width) {
                self.all_gather_in_place(data, &chunks)?;
            }
        }
        Ok(())
    }

    /// Copies the root's `data` to all ranks, along a chain that starts at the root.
    ///
    /// Every rank of the chain but the last sends S bytes. It sends a piece while
    /// the next comes in.
    pub fn broadcast(&mut self, data: &mut [u8], root: usize) -> Result<()> {
        let n = self.members.len();
        let place = (self.rank + n - root) % n; // in the chain
        let pieces = data.len().div_ceil(PIECE).max(1);
        let piece = |p: usize| p * PIECE..data.len().min((p + 1) * PIECE);
        let pieces: Vec<_> = (0..pieces).map(piece).collect();
        match place {
            0 => {
                for piece in pieces {
                    self.send(&data[piece], self.right())?;
                }
            }
            last if last == n - 1 => {
                for piece in pieces {
                    self.receive(&mut data[piece], self.left())?;
                }
            }
            _ => {
                self.receive(&mut data[pieces[0].clone()], self.left())?;
                for pair in pieces.windows(2) {
                    self.step(data, pair[0].clone(), pair[1].clone(), None)?;
                }
                self.send(&data[pieces[pieces.len() - 1].clone()], self.right())?;
            }
        }
        Ok(())
    }

    /// Sends `data` to world rank `to`.
    pub fn send(&mut self, data: &[u8], to: usize) -> Result<()> {
        self.exchange(Some(Outgoing { to, bytes: data }), None)
    }

    /// Fills `data` from world rank `from`.
    pub fn receive(&mut self, data: &mut [u8], from: usize) -> Result<()> {
        let incoming = Incoming { from, into: data, combine: None };
        self.exchange(None, Some(incoming))
    }

    /// Chunk c ends on rank c: it starts its round on rank c+1, and n-1 steps later it is there.
    fn reduce_scatter_in_place(
        &mut self,
        data: &mut [u8],
        chunks: &[Range<usize>],
        combine: Combine,
    ) -> Result<()> {
        let n = chunks.len();
        for step in 1..n {
            let send = chunks[(self.rank + n - step) % n].clone();
            let receive = chunks[(self.rank + 2 * n - step - 1) % n].clone();
            self.step(data, send, receive, Some(combine))?;
        }
        Ok(())
    }

    /// Chunk c starts its round on rank c.
    fn all_gather_in_place(&mut self, data: &mut [u8], chunks: &[Range<usize>]) -> Result<()> {
        let n = chunks.len();
        for step in 0..n - 1 {
            let send = chunks[(self.rank + n - step) % n].clone();
            let receive = chunks[(self.rank + 2 * n - step - 1) % n].clone();
            self.step(data, send, receive, None)?;
        }
        Ok(())
    }

    /// Sends one part of `data` to the right while another comes in from the left.
    fn step(
        &mut self,
        data: &mut [u8],
        send: Range<usize>,
        receive: Range<usize>,
        combine: Option<Combine>,
    ) -> Result<()> {
        let (to, from) = (self.right(), self.left());
        let parts = data.get_disjoint_mut([send, receive]);
        let [bytes, into] = parts.expect("chunks do not overlap");
        let incoming = Incoming { from, into, combine };
        self.exchange(Some(Outgoing { to, bytes }), Some(incoming))
    }

    pub(crate) fn exchange(
        &mut self,
        out: Option<Outgoing>,
        incoming: Option<Incoming>,
    ) -> Result<()> {
        self.sent += out.as_ref().map_or(0, |out| out.bytes.len() as u64);
        self.transport.exchange(self.channel, out, incoming, &self.call)
    }

    /// Cuts `numel` elements into n chunks of nearly equal length, and each chunk into pieces:
    /// yields the same piece of every chunk, as ranges of bytes. At least one piece, even if it is
    /// empty. Pieces are of nearly equal length too: a short one at the end would make as many
    /// hops as a long one.
    fn pieces(
        &self,
        numel: usize,
        width: usize,
    ) -> impl Iterator<Item = Vec<Range<usize>>> + use<> {
        let n = self.members.len();
        let longest = numel.div_ceil(n); // elements of a chunk
        let count = longest.div_ceil(PIECE / width).max(1);
        let piece = longest.div_ceil(count);
        (0..count).map(move |p| {
            let part = |c: usize| {
                let Range { start, end } = chunk(numel, c, n);
                let from = (start + p * piece).min(end);
                let to = (from + piece).min(end);
                from * width..to * width
            };
            (0..n).map(part).collect()
        })
    }

    fn right(&self) -> usize {
        self.members[(self.rank + 1) % self.members.len()]
    }

    fn left(&self) -> usize {
        let n = self.members.len();
        self.members[(self.rank + n - 1) % n]
    }
}

#[cfg(test)]
mod tests;
