//! A file of text: one document, however long, of which no more is in memory than a piece.

use crate::documents::{Piece, Reading};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes at the end of what is read, in which it is to be cut. Who encodes a part sees as much of
/// what stands before it.
const NEAR: usize = 1 << 12;

pub(crate) fn read(
    path: &Path,
    reading: &mut Reading,
    take: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<()> {
    let mut file = File::open(path).context("cannot be read")?;
    // What has been read and not been forgotten; the first `begin` bytes of it are done.
    let (mut shown, mut begin) = (String::new(), 0);
    let mut decoder = Decoder::default();
    let mut near = NEAR;
    loop {
        let more = decoder.read(&mut file, &mut shown, reading.size.max(near))?;
        (reading.seen)(more as u64);
        if more == 0 {
            decoder.finish()?;
            let part = begin..shown.len();
            return take(Piece::Part { shown: shown.into(), part, is_last: true });
        }
        if shown.len() - begin < reading.size || !reading.tokenizer.has_cuts() {
            continue;
        }
        match reading.tokenizer.last_cut(&shown, begin, near)? {
            Some(cut) => {
                take(Piece::Part { shown: (&*shown).into(), part: begin..cut, is_last: false })?;
                let kept = (0..=cut.saturating_sub(near)).rev();
                let kept = kept.clone().find(|&at| shown.is_char_boundary(at)).unwrap_or(0);
                shown.drain(..kept);
                (begin, near) = (cut - kept, NEAR);
            }
            // It may have one if more of it is seen.
            None => near = near.saturating_mul(2),
        }
    }
}

/// Bytes become text; a character may be in two reads.
#[derive(Default)]
struct Decoder {
    /// The beginning of a character.
    cut_off: Vec<u8>,
    position: usize,
    line: usize,
}

impl Decoder {
    /// Appends about `size` bytes of the file, and returns how many; 0 at its end.
    fn read(&mut self, file: &mut File, text: &mut String, size: usize) -> Result<usize> {
        let mut bytes = std::mem::take(&mut self.cut_off);
        let before = bytes.len();
        file.take(size as u64).read_to_end(&mut bytes).context("cannot be read")?;
        let more = bytes.len() - before;
        let whole = match std::str::from_utf8(&bytes) {
            Ok(all) => all.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(error) => return Err(self.refuse(&bytes, error.valid_up_to())),
        };
        self.cut_off = bytes.split_off(whole);
        self.position += whole;
        self.line += bytes.iter().filter(|&&byte| byte == b'\n').count();
        text.push_str(std::str::from_utf8(&bytes)?);
        Ok(more)
    }

    fn finish(&self) -> Result<()> {
        if self.cut_off.is_empty() { Ok(()) } else { Err(self.refuse(&self.cut_off, 0)) }
    }

    fn refuse(&self, bytes: &[u8], at: usize) -> anyhow::Error {
        let line = 1 + self.line + bytes[..at].iter().filter(|&&byte| byte == b'\n').count();
        let (byte, at) = (bytes[at], self.position + at);
        anyhow::anyhow!("it is not UTF-8 text: byte {byte:#04x} at position {at}, line {line}")
    }
}

/// Says what is wrong with a file that cannot be text, before anything is started.
pub(crate) fn check_beginning(path: &Path) -> Result<()> {
    let mut text = String::new();
    let mut file = File::open(path).context("cannot be read")?;
    if Decoder::default().read(&mut file, &mut text, 1 << 16)? == 0 {
        bail!("it is empty");
    }
    Ok(())
}
