//! Text from a model, one token after another.

use crate::Tokenizer;
use crate::random::Random;
use anyhow::Result;
use tch::{Kind, Tensor};

/// Below 1, likely tokens become likelier: a small model then stays on its rails.
const TEMPERATURE: f64 = 0.7;

/// How to continue a text.
#[derive(Clone, Debug)]
pub struct Generate {
    pub prompt: String,
    /// Tokens to add.
    pub tokens: usize,
    /// The most tokens that the model sees at once: those before the new one, as many as fit.
    pub context: usize,
    /// The same seed and the same scores make the same text.
    pub seed: u64,
}

impl Generate {
    /// Returns the prompt and its continuation. `forward` turns tokens `[1, seq]` into scores
    /// `[1, seq, vocab]`. Nothing is cached between tokens: right for a sample after training, not for
    /// a server.
    pub fn run(
        &self,
        tokenizer: &Tokenizer,
        forward: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<String> {
        let mut tokens: Vec<u32> = tokenizer.encode(&self.prompt)?;
        let mut random = Random::new(self.seed, 0);
        for _ in 0..self.tokens {
            let window = &tokens[tokens.len().saturating_sub(self.context)..];
            let window: Vec<i64> = window.iter().map(|&t| t.into()).collect();
            let input = Tensor::from_slice(&window).unsqueeze(0); // [1, seq]
            let scores = tch::no_grad(|| forward(&input))?.select(0, 0); // [seq, vocab]
            let last = scores.get(-1).to_kind(Kind::Double) / TEMPERATURE; // [vocab]
            let cumulated = Vec::<f64>::try_from(last.softmax(-1, Kind::Double).cumsum(0, None))?;
            let draw = random.uniform();
            let picked = cumulated.partition_point(|&sum| sum <= draw);
            // The last sum may fall short of 1 by rounding.
            tokens.push(picked.min(cumulated.len() - 1) as u32);
        }
        tokenizer.decode(&tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Scores that make each byte's successor certain.
    fn successor(tokens: &Tensor) -> Result<Tensor> {
        assert!(tokens.size()[1] <= 3, "more context than asked for");
        Ok((tokens + 1).one_hot(256).to_kind(Kind::Float) * 100.0)
    }

    #[test]
    fn continues_the_prompt_within_the_context() {
        let options = Generate { prompt: "ab".into(), tokens: 5, context: 3, seed: 1 };
        assert_eq!(options.run(&Tokenizer::Bytes, successor).unwrap(), "abcdefg");
    }

    #[test]
    fn draws_as_often_as_the_scores_say() {
        // Two tokens, three to one: at temperature T the odds become 3^(1/T).
        let odds = Tensor::from_slice(&[3f64.ln(), 0.0]);
        let scores = Tensor::full([256], f64::NEG_INFINITY, (Kind::Double, Device::Cpu));
        scores.narrow(0, 97, 2).copy_(&odds);
        let options = Generate { prompt: "a".into(), tokens: 2000, context: 1, seed: 5 };
        let text = options.run(&Tokenizer::Bytes, |_| Ok(scores.view([1, 1, 256]))).unwrap();
        let share = text.matches('a').count() as f64 / 2001.0;
        let expected = 1.0 / (1.0 + 3f64.powf(-1.0 / TEMPERATURE));
        // Five standard deviations of 2,000 draws.
        assert!((share - expected).abs() < 5.0 * (expected * (1.0 - expected) / 2000.0).sqrt());
    }
}
