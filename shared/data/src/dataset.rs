//! A long row of tokens, cut into samples.

use crate::{Tokenizer, corpus};
use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use std::fmt;
use std::fs::File;
use std::path::Path;

/// ⌊(T−1)/S⌋ samples of S+1 tokens out of T: sample i starts at token i·S, so its last token, which
/// is only a target, is the next sample's first.
pub struct Dataset {
    tokens: Tokens,
    seq_len: usize,
    samples: usize,
}

enum Tokens {
    Memory(Vec<u32>),
    /// A file of little-endian u16.
    Mapped(Mmap),
}

impl Tokens {
    fn len(&self) -> usize {
        match self {
            Self::Memory(tokens) => tokens.len(),
            Self::Mapped(bytes) => bytes.len() / 2,
        }
    }

    fn range(&self, start: usize, len: usize) -> Vec<i64> {
        match self {
            Self::Memory(tokens) => tokens[start..start + len].iter().map(|&t| t.into()).collect(),
            Self::Mapped(bytes) => u16s(&bytes[2 * start..2 * (start + len)]).collect(),
        }
    }
}

fn u16s(bytes: &[u8]) -> impl Iterator<Item = i64> {
    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]).into())
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dataset({} tokens in samples of {})", self.tokens(), self.seq_len)
    }
}

/// Whether a data file holds tokens (`.bin`); all others are text.
pub fn is_tokens(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "bin")
}

impl Dataset {
    /// The first [`corpus::SIZE`] bytes of the built-in tales.
    pub fn tales(tokenizer: &Tokenizer, vocab_size: usize, seq_len: usize) -> Result<Self> {
        let tokens = tokenizer.encode(&corpus::text(corpus::SIZE))?;
        Self::from_tokens(tokens, vocab_size, seq_len).context("the built-in tales")
    }

    /// Tales that [`Dataset::tales`] does not hold, a sixteenth as many.
    pub fn held_out_tales(
        tokenizer: &Tokenizer,
        vocab_size: usize,
        seq_len: usize,
    ) -> Result<Self> {
        let tokens = tokenizer.encode(&corpus::held_out(corpus::SIZE / 16))?;
        Self::from_tokens(tokens, vocab_size, seq_len).context("the held-out tales")
    }

    /// Opens text (UTF-8, encoded whole with `tokenizer`) or `.bin` (little-endian u16 tokens, read
    /// once in passing to check them, and then only where samples are taken).
    ///
    /// # Errors
    /// In one sentence that names the file: missing, not UTF-8, an odd number of
    /// bytes, a token at or above `vocab_size`, too short for one sample of `seq_len`.
    pub fn open(
        path: &Path,
        tokenizer: &Tokenizer,
        vocab_size: usize,
        seq_len: usize,
    ) -> Result<Self> {
        let tokens = if is_tokens(path) { map_tokens(path) } else { read_text(path, tokenizer) };
        tokens
            .and_then(|tokens| Self::new(tokens, vocab_size, seq_len))
            .with_context(|| format!("data file {}", path.display()))
    }

    /// Samples of tokens that are already in memory; the errors are those of [`Dataset::open`].
    pub fn from_tokens(tokens: Vec<u32>, vocab_size: usize, seq_len: usize) -> Result<Self> {
        Self::new(Tokens::Memory(tokens), vocab_size, seq_len)
    }

    fn new(tokens: Tokens, vocab_size: usize, seq_len: usize) -> Result<Self> {
        ensure!(seq_len > 0, "seq-len 0: a sample needs at least one token");
        let len = tokens.len();
        let samples = len.saturating_sub(1) / seq_len;
        let need = seq_len + 1;
        ensure!(
            samples > 0,
            "it has {len} tokens, and one sample of seq-len {seq_len} needs {need}"
        );
        let outside = |id: &i64| *id >= vocab_size as i64;
        let found = match &tokens {
            Tokens::Memory(tokens) => first(tokens.iter().map(|&t| t.into()), outside),
            Tokens::Mapped(_) if vocab_size > usize::from(u16::MAX) => None,
            Tokens::Mapped(bytes) => first(u16s(bytes), outside),
        };
        if let Some((position, id)) = found {
            bail!("token {id} at position {position} is outside the vocabulary of {vocab_size}");
        }
        Ok(Self { tokens, seq_len, samples })
    }

    /// T, the number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// S: a sample has this many inputs and as many targets.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// The number of samples, at least 1.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The S+1 tokens of sample `index`, which is below [`Dataset::samples`].
    pub fn sample(&self, index: usize) -> Vec<i64> {
        assert!(index < self.samples, "sample {index} of {}", self.samples);
        self.tokens.range(index * self.seq_len, self.seq_len + 1)
    }
}

fn first(tokens: impl Iterator<Item = i64>, wrong: impl Fn(&i64) -> bool) -> Option<(usize, i64)> {
    tokens.enumerate().find(|(_, id)| wrong(id))
}

fn read_text(path: &Path, tokenizer: &Tokenizer) -> Result<Tokens> {
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

fn map_tokens(path: &Path) -> Result<Tokens> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, bytes: &[u8], vocab_size: usize, seq_len: usize) -> Result<Dataset> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Dataset::open(&path, &Tokenizer::Bytes, vocab_size, seq_len)
    }

    fn le(tokens: &[u16]) -> Vec<u8> {
        tokens.iter().flat_map(|t| t.to_le_bytes()).collect()
    }

    #[test]
    fn samples_overlap_by_the_one_token_that_is_only_a_target() {
        for len in [9, 10, 11] {
            let dataset = Dataset::from_tokens((0..len).collect(), 100, 3).unwrap();
            assert_eq!(dataset.samples(), if len == 9 { 2 } else { 3 });
            assert_eq!(dataset.sample(0), [0, 1, 2, 3]);
            assert_eq!(dataset.sample(1), [3, 4, 5, 6]);
        }
    }

    #[test]
    fn text_and_token_files_are_read_alike() {
        let text = open("a.txt", "caf\u{e9}!".as_bytes(), 256, 2).unwrap();
        let tokens = open("a.bin", &le(&[0x63, 0x61, 0x66, 0xC3, 0xA9, 0x21]), 256, 2).unwrap();
        assert_eq!((text.tokens(), text.samples()), (6, 2));
        for i in 0..2 {
            assert_eq!(text.sample(i), tokens.sample(i));
        }
        let big = open("b.bin", &le(&[65535, 1, 258]), 65536, 2).unwrap();
        assert_eq!(big.sample(0), [65535, 1, 258]);
    }

    #[test]
    fn the_tales_fit_their_byte_vocabulary() {
        let dataset = Dataset::tales(&Tokenizer::Bytes, 256, 128).unwrap();
        assert_eq!(dataset.tokens(), corpus::SIZE);
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let cases: [(&str, Vec<u8>, &str); 7] = [
            (
                "x.bin",
                vec![1, 0, 2],
                "it has 3 bytes, an odd number: its tokens are two bytes each",
            ),
            ("x.bin", le(&[1, 2, 3]), "it has 3 tokens, and one sample of seq-len 3 needs 4"),
            ("x.bin", vec![], "it has 0 tokens, and one sample of seq-len 3 needs 4"),
            ("x.txt", vec![], "it has 0 tokens, and one sample of seq-len 3 needs 4"),
            (
                "x.bin",
                le(&[1, 2, 189, 4, 5, 190]),
                "token 190 at position 5 is outside the vocabulary of 190",
            ),
            (
                "x.txt",
                b"abcd\xC3\xA9".to_vec(),
                "token 195 at position 4 is outside the vocabulary of 190",
            ),
            (
                "x.txt",
                b"ab\nc\xFFd".to_vec(),
                "it is not UTF-8 text: byte 0xff at position 4, line 2 (tokens end in .bin)",
            ),
        ];
        for (name, bytes, expected) in cases {
            let error = format!("{:#}", open(name, &bytes, 190, 3).err().unwrap());
            assert!(error.starts_with("data file /") && error.ends_with(expected), "{error}");
        }
        let missing = Dataset::open(Path::new("/no/x.bin"), &Tokenizer::Bytes, 190, 3);
        let error = format!("{:#}", missing.err().unwrap());
        assert_eq!(
            error,
            "data file /no/x.bin: cannot be read: No such file or directory (os error 2)"
        );
    }
}
