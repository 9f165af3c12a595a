//! Where tokens come from: text that is encoded, or a file of them that is mapped.

use crate::Tokenizer;
use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// A long row of tokens.
pub(crate) enum Tokens {
    Memory(Vec<u32>),
    /// A file of little-endian u16.
    Mapped(Mmap),
}

impl Tokens {
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(tokens) => tokens.len(),
            Self::Mapped(bytes) => bytes.len() / 2,
        }
    }

    pub fn range(&self, start: usize, len: usize) -> Vec<i64> {
        match self {
            Self::Memory(tokens) => tokens[start..start + len].iter().map(|&t| t.into()).collect(),
            Self::Mapped(bytes) => u16s(&bytes[2 * start..2 * (start + len)]).collect(),
        }
    }
}

pub(crate) fn u16s(bytes: &[u8]) -> impl Iterator<Item = i64> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]).into())
}

/// Whether a data file holds tokens (`.bin`); all others are text.
pub fn is_tokens(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "bin")
}

pub(crate) fn read_text(path: &Path, tokenizer: &Tokenizer) -> Result<Tokens> {
    let bytes = std::fs::read(path).context("cannot be read")?;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let line = 1 + bytes[..at].iter().filter(|&&b| b == b'\n').count();
            bail!(
                "it is not UTF-8 text: byte {:#04x} at position {at}, line {line} (tokens end in .bin)",
                bytes[at]
            );
        }
    };
    Ok(Tokens::Memory(tokenizer.encode(text)?))
}

pub(crate) fn map_tokens(path: &Path) -> Result<Tokens> {
    let file = File::open(path).context("cannot be read")?;
    let bytes = file.metadata().context("cannot be read")?.len();
    ensure!(bytes % 2 == 0, "it has {bytes} bytes, an odd number: its tokens are two bytes each");
    if bytes == 0 {
        return Ok(Tokens::Memory(Vec::new())); // nothing to map
    }
    // SAFETY: the mapping is read-only and private. Another process that shortens the file under a
    // run would end it with a signal; nobody is served by guarding against that.
    let map = unsafe { Mmap::map(&file) }.context("cannot be mapped")?;
    Ok(Tokens::Mapped(map))
}
