//! A long row of tokens, cut into samples.

use crate::tokens::{Tokens, map_tokens, numbers, read_text, token_width};
use crate::{Tokenizer, corpus};
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::path::Path;

/// ⌊(T−1)/S⌋ samples of S+1 tokens out of T: sample i starts at token i·S, so its last token, which
/// is only a target, is the next sample's first.
pub struct Dataset {
    tokens: Tokens,
    seq_len: usize,
    samples: usize,
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dataset({} tokens in samples of {})", self.tokens(), self.seq_len)
    }
}

impl Dataset {
    /// The first [`corpus::SIZE`] bytes of the built-in tales.
    pub fn tales(tokenizer: &Tokenizer, vocab_size: usize, seq_len: usize) -> Result<Self> {
        let tokens = tokenizer.encode(&corpus::text(corpus::SIZE))?;
        Self::from_tokens(tokens, vocab_size, seq_len).context("the built-in tales")
    }

    /// Tales that [`Dataset::tales`] does not contain, a sixteenth as many.
    pub fn held_out_tales(
        tokenizer: &Tokenizer,
        vocab_size: usize,
        seq_len: usize,
    ) -> Result<Self> {
        let tokens = tokenizer.encode(&corpus::held_out(corpus::SIZE / 16))?;
        Self::from_tokens(tokens, vocab_size, seq_len).context("the held-out tales")
    }

    /// Opens text (UTF-8, encoded whole with `tokenizer`), `.bin` or `.u32` (little-endian tokens,
    /// read through once to check them, and then only where samples are taken).
    ///
    /// # Errors
    /// In one sentence that names the file: missing, not UTF-8, a token that is
    /// cut off, a token at or above `vocab_size`, too short for one sample of `seq_len`.
    pub fn open(
        path: &Path,
        tokenizer: &Tokenizer,
        vocab_size: usize,
        seq_len: usize,
    ) -> Result<Self> {
        let tokens = match token_width(path) {
            Some(width) => map_tokens(path, width),
            None => read_text(path, tokenizer),
        };
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
            "it has {len} tokens, but one sample of seq-len {seq_len} needs {need}"
        );
        let outside = |id: &i64| *id >= vocab_size as i64;
        let found = match &tokens {
            Tokens::Memory(tokens) => first(tokens.iter().map(|&t| t.into()), outside),
            Tokens::Mapped(_, 2) if vocab_size > usize::from(u16::MAX) => None,
            Tokens::Mapped(bytes, width) => first(numbers(bytes, *width), outside),
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

    /// Distinguishes the data from others with as many samples: a hash (FNV-1a) of some samples,
    /// spread from the first to the last.
    pub fn fingerprint(&self) -> u64 {
        let seen = self.samples.min(256);
        let spread = (0..seen).map(|i| i * (self.samples - 1) / (seen - 1).max(1));
        let tokens = spread.flat_map(|i| self.sample(i));
        tokens.fold(0xcbf2_9ce4_8422_2325, |hash, token| {
            (hash ^ token as u64).wrapping_mul(0x0100_0000_01b3)
        })
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
        let wide: Vec<u8> =
            [128_255_u32, 1, 70_000].into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!(open("c.u32", &wide, 128_256, 2).unwrap().sample(0), [128_255, 1, 70_000]);
        let error = format!("{:#}", open("c.u32", &wide, 128_000, 2).unwrap_err());
        assert!(error.ends_with("token 128255 at position 0 is outside the vocabulary of 128000"));
    }

    #[test]
    fn other_data_of_the_same_length_have_another_fingerprint() {
        let of = |tokens: Vec<u32>| Dataset::from_tokens(tokens, 9, 2).unwrap().fingerprint();
        let plain = of(vec![1, 2, 3, 4, 5]);
        assert_eq!(plain, of(vec![1, 2, 3, 4, 5]));
        let others = [vec![0, 2, 3, 4, 5], vec![1, 2, 3, 4, 6], vec![2, 1, 3, 4, 5]].map(of);
        assert!(!others.contains(&plain), "{plain} {others:?}");
        assert_eq!(of(vec![1; 3]), of(vec![1; 3]), "one sample");
        assert_ne!(of(vec![1; 4001]), of(vec![2; 4001]), "more samples than are looked at");
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
                "it has 3 bytes, but its tokens have 2 each, and one is cut off",
            ),
            ("x.bin", le(&[1, 2, 3]), "it has 3 tokens, but one sample of seq-len 3 needs 4"),
            ("x.bin", vec![], "it has 0 tokens, but one sample of seq-len 3 needs 4"),
            ("x.txt", vec![], "it has 0 tokens, but one sample of seq-len 3 needs 4"),
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
                "it is not UTF-8 text: byte 0xff at position 4, line 2 (files of tokens end in .bin or .u32)",
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
