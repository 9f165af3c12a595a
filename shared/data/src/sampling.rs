//! A sample of text from a trained model.

use crate::{Random, Tokenizer};
use anyhow::{Context, Result};
use std::io::Write;
use std::path::Path;
use tch::{Device, IndexOp, Kind, Tensor};

/// The text that a model is to write.
#[derive(Clone, Copy, Debug)]
pub struct Sampling<'a> {
    /// A Hugging Face `tokenizer.json`; without it, text is bytes.
    pub tokenizer: Option<&'a Path>,
    /// What the text begins with.
    pub prompt: &'a str,
    /// How many tokens are written after the prompt.
    pub tokens: usize,
    /// Logits are divided by it: below 1 likely tokens become likelier still, for which a small
    /// model spells better. At 0 the likeliest is always taken.
    pub temperature: f64,
    /// Draw among so many of the likeliest tokens; `None`: among all.
    pub top_k: Option<usize>,
    /// Decides which of the likely tokens are drawn.
    pub seed: u64,
    /// Tokens that the model reads at once.
    pub seq_len: usize,
    /// Where it computes.
    pub device: Device,
}

impl Sampling<'_> {
    /// Writes the text and, on the leader, prints it; nothing where no tokens are asked for.
    ///
    /// `forward` takes tokens, i64 `[1, seq_len]` on `device`, and the position of the last one
    /// that counts, and returns the logits there, `[vocab]` of any float type. It always gets a
    /// full sequence, as in training (it cannot see what comes after the text so far). If every
    /// rank's `forward` returns the same logits, every rank draws the same tokens, so all may
    /// call this together.
    ///
    /// # Errors
    /// Those of `forward` and of the tokenizer, and if standard output cannot be written.
    pub fn print(
        &self,
        leader: bool,
        forward: impl FnMut(&Tensor, i64) -> Result<Tensor>,
    ) -> Result<()> {
        if self.tokens > 0 {
            let text = self.text(forward)?;
            if leader {
                writeln!(std::io::stdout(), "\n{text}").context("cannot write the sample")?;
            }
        }
        Ok(())
    }

    /// The prompt and the tokens after it; see [`Sampling::print`].
    ///
    /// # Errors
    /// Those of `forward` and of the tokenizer.
    pub fn text(&self, mut forward: impl FnMut(&Tensor, i64) -> Result<Tensor>) -> Result<String> {
        let tokenizer = Tokenizer::open(self.tokenizer)?;
        let mut tokens = tokenizer.encode(self.prompt)?;
        let mut random = Random::new(self.seed, 0);
        // The model's may be padded beyond it.
        let vocabulary = tokenizer.vocab_size() as i64;
        for _ in 0..self.tokens {
            let seen = &tokens[tokens.len().saturating_sub(self.seq_len)..];
            let mut input: Vec<i64> = seen.iter().map(|&token| token.into()).collect();
            let last = seen.len() as i64 - 1;
            input.resize(self.seq_len, 0);
            let input = Tensor::from_slice(&input).unsqueeze(0).to_device(self.device); // [1, seq]
            let logits = tch::no_grad(|| forward(&input, last))?; // [vocab]
            let logits = logits.i(..vocabulary).to_kind(Kind::Double);
            let logits = Vec::<f64>::try_from(&logits)?; // [vocab]
            tokens.push(self.draw(&logits, random.unit()) as u32);
        }
        tokenizer.decode(&tokens)
    }

    /// The token at which the cumulative probability passes `u`, from [0, 1). Of equal logits the
    /// first is the likelier, so that all ranks agree.
    fn draw(&self, logits: &[f64], u: f64) -> usize {
        let (kept, highest) = likeliest(logits, self.top_k.unwrap_or(logits.len()));
        if self.temperature == 0.0 {
            return highest;
        }
        let weight = |token: usize| ((logits[token] - logits[highest]) / self.temperature).exp();
        let mut left = u * kept.iter().map(|&token| weight(token)).sum::<f64>();
        for &token in &kept {
            left -= weight(token);
            if left < 0.0 {
                return token;
            }
        }
        highest // u was as near to 1 as rounding lets it be
    }
}

/// The `k` tokens with the highest logits, in their order, and the first of them all.
fn likeliest(logits: &[f64], k: usize) -> (Vec<usize>, usize) {
    let mut tokens: Vec<usize> = (0..logits.len()).collect();
    let higher = |&a: &usize, &b: &usize| logits[b].total_cmp(&logits[a]).then(a.cmp(&b));
    let highest = tokens.iter().copied().min_by(higher).unwrap_or(0);
    if k < tokens.len() {
        tokens.select_nth_unstable_by(k, higher);
        tokens.truncate(k.max(1));
        tokens.sort_unstable();
    }
    (tokens, highest)
}

#[cfg(test)]
mod tests;
