//! Where tokens come from: encoded text, or a mapped file of tokens.

use crate::Tokenizer;
use crate::cache::{self, TokenCache};
use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// A long row of tokens.
pub(crate) enum Tokens {
    Memory(Vec<u32>),
    /// A file of little-endian numbers, each of `width` bytes, from byte `start` on. The highest of
    /// them is known if all have been seen.
    Mapped {
        bytes: Mmap,
        start: usize,
        width: usize,
        highest: Option<u32>,
    },
}

impl Tokens {
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(tokens) => tokens.len(),
            Self::Mapped { bytes, start, width, .. } => (bytes.len() - start) / width,
        }
    }

    pub fn range(&self, from: usize, len: usize) -> Vec<i64> {
        match self {
            Self::Memory(tokens) => tokens[from..from + len].iter().map(|&t| t.into()).collect(),
            Self::Mapped { bytes, start, width, .. } => {
                numbers(&bytes[start + width * from..start + width * (from + len)], *width)
                    .collect()
            }
        }
    }

    /// The highest token, if all have been seen.
    pub fn highest(&self) -> Option<u32> {
        match self {
            Self::Memory(tokens) => tokens.iter().copied().max(),
            Self::Mapped { highest, .. } => *highest,
        }
    }
}

/// Little-endian numbers of `width` bytes each.
fn numbers(bytes: &[u8], width: usize) -> impl Iterator<Item = i64> {
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &byte| n << 8 | i64::from(byte));
    bytes.chunks_exact(width).map(number)
}

/// How many bytes a token has in a file of tokens: two in `.bin`, four in `.u32`.
/// `None`: it is text.
pub fn token_width(path: &Path) -> Option<usize> {
    match path.extension()?.to_str()? {
        "bin" => Some(2),
        "u32" => Some(4),
        _ => None,
    }
}

pub(crate) fn read_text(path: &Path, tokenizer: &Tokenizer, cache: TokenCache) -> Result<Tokens> {
    let Some(bytes) = map(path)? else { return Ok(Tokens::Memory(Vec::new())) };
    match tokenizer {
        Tokenizer::Bytes => {
            as_text(&bytes)?;
            let highest = bytes.iter().max().map(|&byte| byte.into());
            Ok(Tokens::Mapped { bytes, start: 0, width: 1, highest })
        }
        Tokenizer::HuggingFace(tokenizer) => cache::tokens(path, &bytes, tokenizer, cache),
    }
}

/// The text that a file's bytes are.
pub(crate) fn as_text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).or_else(|error| {
        let at = error.valid_up_to();
        let line = 1 + bytes[..at].iter().filter(|&&b| b == b'\n').count();
        bail!(
            "it is not UTF-8 text: byte {:#04x} at position {at}, line {line} (files of tokens end in .bin or .u32)",
            bytes[at]
        );
    })
}

pub(crate) fn map_tokens(path: &Path, width: usize) -> Result<Tokens> {
    let Some(bytes) = map(path)? else { return Ok(Tokens::Memory(Vec::new())) };
    ensure!(
        bytes.len() % width == 0,
        "it has {} bytes, but its tokens have {width} each, and one is cut off",
        bytes.len()
    );
    Ok(Tokens::Mapped { bytes, start: 0, width, highest: None })
}

/// The bytes of a file; `None` if it has none, which cannot be mapped.
fn map(path: &Path) -> Result<Option<Mmap>> {
    let file = File::open(path).context("cannot be read")?;
    if file.metadata().context("cannot be read")?.len() == 0 {
        return Ok(None);
    }
    // SAFETY: the mapping is read-only and private. Another process that shortens the file during a
    // run would end it with a signal, which is not worth guarding against.
    Ok(Some(unsafe { Mmap::map(&file) }.context("cannot be mapped")?))
}
