//! A sample of text from a trained model.

use crate::{Random, Tokenizer};
use anyhow::{Context, Result};
use std::io::Write;
use std::path::Path;
use tch::{Device, IndexOp, Kind, Tensor};

/// Below 1 likely tokens become likelier still; a small model spells better for it.
const TEMPERATURE: f64 = 0.5;

/// The text that a model is to write.
#[derive(Clone, Copy, Debug)]
pub struct Sampling<'a> {
    /// A Hugging Face `tokenizer.json`; without it, text is bytes.
    pub tokenizer: Option<&'a Path>,
    /// What the text begins with.
    pub prompt: &'a str,
    /// How many tokens are written after the prompt.
    pub tokens: usize,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(prompt: &str, tokens: usize, seq_len: usize) -> Sampling<'_> {
        Sampling { tokenizer: None, prompt, tokens, seed: 1234, seq_len, device: Device::Cpu }
    }

    #[test]
    fn a_model_that_counts_goes_on_counting_beyond_its_context() {
        let sampling = sampling("ab", 6, 3);
        let text = sampling.text(|tokens, last| {
            assert_eq!(tokens.size(), [1, 3]);
            Ok((tokens.i((0, last)) + 1).one_hot(256).to_kind(Kind::Float) * 100.0) // [vocab]
        });
        assert_eq!(text.unwrap(), "abcdefgh");
    }

    #[test]
    fn tokens_come_as_often_as_the_logits_say() {
        let sampling = sampling("a", 2000, 1);
        // Of a and b, a is three times as likely: at temperature T, 3^(1/T) times. A padded
        // vocabulary's tokens, however likely, are never drawn.
        let logits = Tensor::full([300], f64::NEG_INFINITY, (Kind::Double, Device::Cpu));
        logits.i(97..99).copy_(&Tensor::from_slice(&[3f64.ln(), 0.0]));
        let _ = logits.i(256..).fill_(9.0);
        let draw = || sampling.text(|_, _| Ok(logits.shallow_clone())).unwrap();
        let text = draw();
        assert_eq!(text.len(), 2001);
        let share = text[1..].matches('a').count() as f64 / 2000.0;
        let expected = 1.0 / (1.0 + 3f64.powf(-1.0 / TEMPERATURE));
        // Five standard deviations of 2,000 draws.
        let bound = 5.0 * (expected * (1.0 - expected) / 2000.0).sqrt();
        assert!((share - expected).abs() < bound, "{share} {expected}");
        assert_eq!(text, draw(), "the seed decides");
    }

    #[test]
    fn no_sample_runs_no_model() {
        sampling("a", 0, 1).print(true, |_, _| panic!("not asked for")).unwrap();
    }
}
