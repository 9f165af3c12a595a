//! A long row of tokens, cut into samples.

use crate::tokens::{Tokens, map_tokens, read_text, token_width};
use crate::{TokenCache, Tokenizer, corpus};
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::path::Path;

/// ⌊(T−1)/S⌋ samples of S+1 tokens out of T: sample i starts at token i·S, so its last token, which
/// is only a target, is the next sample's first.
pub struct Dataset {
    tokens: Tokens,
    vocab_size: usize,
    seq_len: usize,
    samples: usize,
    /// What an error calls it.
    name: String,
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

    /// Opens text (UTF-8, encoded with `tokenizer`; the tokens of a long one are kept as `cache`
    /// says), `.bin` or `.u32` (little-endian tokens, read only where samples are taken).
    ///
    /// # Errors
    /// In one sentence that names the file: missing, not UTF-8, a token that is
    /// cut off, a token at or above `vocab_size`, too short for one sample of `seq_len`. In a file of
    /// tokens it looks at some samples, which show at once if another tokenizer made it: to read a
    /// trillion tokens takes twenty minutes. [`Dataset::sample`] checks each sample that is used.
    pub fn open(
        path: &Path,
        tokenizer: &Tokenizer,
        cache: TokenCache,
        vocab_size: usize,
        seq_len: usize,
    ) -> Result<Self> {
        let tokens = match token_width(path) {
            Some(width) => map_tokens(path, width),
            None => read_text(path, tokenizer, cache),
        };
        let name = format!("data file {}", path.display());
        let dataset = tokens.and_then(|tokens| Self::new(tokens, vocab_size, seq_len));
        Ok(Self { name: name.clone(), ..dataset.context(name)? })
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
        let dataset = Self { tokens, vocab_size, seq_len, samples, name: "tokens".into() };
        match dataset.tokens.highest() {
            Some(highest) if (highest as usize) < vocab_size => {}
            // One of them is too high: say which.
            Some(_) => {
                for start in (0..len).step_by(seq_len) {
                    let some = dataset.tokens.range(start, seq_len.min(len - start));
                    dataset.check(start, some)?;
                }
            }
            None => {
                for index in dataset.spread() {
                    dataset.check(index * seq_len, dataset.read(index))?;
                }
            }
        }
        Ok(dataset)
    }

    /// An error if one of `ids`, which begin at token `start`, is outside the vocabulary.
    fn check(&self, start: usize, ids: impl IntoIterator<Item = i64>) -> Result<()> {
        let vocab_size = self.vocab_size;
        match ids.into_iter().zip(start..).find(|(id, _)| *id >= vocab_size as i64) {
            None => Ok(()),
            Some((id, position)) => {
                bail!("token {id} at position {position} is outside the vocabulary of {vocab_size}")
            }
        }
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
        let tokens = self.spread().flat_map(|index| self.read(index));
        tokens.fold(0xcbf2_9ce4_8422_2325, |hash, token| {
            (hash ^ token as u64).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// Whether `token` occurs in some samples, spread from the first to the last.
    pub fn has(&self, token: i64) -> bool {
        self.spread().any(|index| self.read(index).contains(&token))
    }

    /// Up to 256 samples, spread from the first to the last.
    fn spread(&self) -> impl Iterator<Item = usize> {
        let (seen, last) = (self.samples.min(256), self.samples - 1);
        (0..seen).map(move |i| i * last / (seen - 1).max(1))
    }

    /// The S+1 tokens of sample `index`, which is below [`Dataset::samples`].
    ///
    /// # Errors
    /// If one of them is outside the vocabulary.
    pub fn sample(&self, index: usize) -> Result<Vec<i64>> {
        assert!(index < self.samples, "sample {index} of {}", self.samples);
        let tokens = self.read(index);
        let checked = self.check(index * self.seq_len, tokens.iter().copied());
        checked.with_context(|| self.name.clone())?;
        Ok(tokens)
    }

    fn read(&self, index: usize) -> Vec<i64> {
        self.tokens.range(index * self.seq_len, self.seq_len + 1)
    }
}

#[cfg(test)]
mod tests;
