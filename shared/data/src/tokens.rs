//! Where tokens come from: encoded text, or a mapped file of tokens.

use crate::Tokenizer;
use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// A long row of tokens.
pub(crate) enum Tokens {
    Memory(Vec<u32>),
    /// A file of little-endian numbers, each of so many bytes.
    Mapped(Mmap, usize),
}

impl Tokens {
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(tokens) => tokens.len(),
            Self::Mapped(bytes, width) => bytes.len() / width,
        }
    }

    pub fn range(&self, start: usize, len: usize) -> Vec<i64> {
        match self {
            Self::Memory(tokens) => tokens[start..start + len].iter().map(|&t| t.into()).collect(),
            Self::Mapped(bytes, width) => {
                numbers(&bytes[width * start..width * (start + len)], *width).collect()
            }
        }
    }
}

/// Little-endian numbers of `width` bytes each.
fn numbers(bytes: &[u8], width: usize) -> impl Iterator<Item = i64> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &byte| n << 8 | i64::from(byte));
    bytes.chunks_exact(width).map(number)
}

/// How many bytes a token has in a file of tokens: two in `.bin`, four in `.u32`. `None`: it is text.
pub fn token_width(path: &Path) -> Option<usize> {
    match path.extension()?.to_str()? {
        "bin" => Some(2),
        "u32" => Some(4),
        _ => None,
    }
}

pub(crate) fn read_text(path: &Path, tokenizer: &Tokenizer) -> Result<Tokens> {
    let bytes = std::fs::read(path).context("cannot be read")?;
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let line = 1 + bytes[..at].iter().filter(|&&b| b == b'\n').count();
            bail!(
                "it is not UTF-8 text: byte {:#04x} at position {at}, line {line} (files of tokens end in .bin or .u32)",
                bytes[at]
            );
        }
    };
    Ok(Tokens::Memory(tokenizer.encode(text)?))
}

pub(crate) fn map_tokens(path: &Path, width: usize) -> Result<Tokens> {
    let file = File::open(path).context("cannot be read")?;
    let bytes = file.metadata().context("cannot be read")?.len();
    ensure!(
        bytes % width as u64 == 0,
        "it has {bytes} bytes, but its tokens have {width} each, and one is cut off"
    );
    if bytes == 0 {
        return Ok(Tokens::Memory(Vec::new())); // nothing to map
    }
    // SAFETY: the mapping is read-only and private. Another process that shortens the file during a
    // run would end it with a signal, which is not worth guarding against.
    let map = unsafe { Mmap::map(&file) }.context("cannot be mapped")?;
    Ok(Tokens::Mapped(map, width))
}
