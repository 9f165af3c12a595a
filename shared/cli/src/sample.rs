//! A sample of text from a trained model.

use crate::Config;
use anyhow::{Context, Result};
use data::Random;
use std::io::Write;
use tch::{IndexOp, Kind, Tensor};

/// Below 1 likely tokens become likelier still; a small model spells better for it.
const TEMPERATURE: f64 = 0.7;

impl Config {
    /// Writes `sample` tokens after the prompt and, on the leader, prints the text; nothing where
    /// `sample` is 0.
    ///
    /// `forward` takes tokens, i64 `[1, seq-len]` on [`Config::device`], and returns logits
    /// `[1, seq-len, vocab]` of any float type. It always gets a full sequence, as in training (what
    /// comes after the text so far cannot be seen by it). Where every rank's `forward` returns the
    /// same logits, every rank draws the same tokens, so all may call this together.
    pub fn sample(
        &self,
        leader: bool,
        forward: impl FnMut(&Tensor) -> Result<Tensor>,
    ) -> Result<()> {
        if self.run.sample > 0 {
            let text = self.generate(forward)?;
            if leader {
                writeln!(std::io::stdout(), "\n{text}").context("cannot write the sample")?;
            }
        }
        Ok(())
    }

    /// The prompt and `sample` tokens after it; see [`Config::sample`].
    pub fn generate(&self, mut forward: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<String> {
        let tokenizer = self.tokenizer()?;
        let mut tokens = tokenizer.encode(&self.run.prompt)?;
        let mut random = Random::new(self.train.seed, 0);
        let seq_len = self.data.seq_len;
        for _ in 0..self.run.sample {
            let seen = &tokens[tokens.len().saturating_sub(seq_len)..];
            let mut input: Vec<i64> = seen.iter().map(|&token| token.into()).collect();
            let last = seen.len() as i64 - 1;
            input.resize(seq_len, 0);
            let input = Tensor::from_slice(&input).unsqueeze(0).to_device(self.device()); // [1, seq]
            let logits = tch::no_grad(|| forward(&input))?; // [1, seq, vocab]
            // A vocabulary may be padded beyond the tokenizer's.
            let logits = logits.i((0, last, ..tokenizer.vocab_size() as i64)).to_kind(Kind::Double);
            let logits = Vec::<f64>::try_from(&logits)?; // [vocab]
            tokens.push(draw(&logits, random.unit()) as u32);
        }
        tokenizer.decode(&tokens)
    }
}

/// The token at which the cumulative probability passes `u`, from [0, 1).
fn draw(logits: &[f64], u: f64) -> usize {
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> =
        logits.iter().map(|logit| ((logit - highest) / TEMPERATURE).exp()).collect();
    let mut left = u * weights.iter().sum::<f64>();
    for (token, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return token;
        }
    }
    logits.len() - 1
}
