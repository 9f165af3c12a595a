use super::*;

fn sampling(prompt: &str, tokens: usize, seq_len: usize) -> Sampling<'_> {
    let (temperature, top_k, device) = (0.5, None, Device::Cpu);
    Sampling { tokenizer: None, prompt, tokens, temperature, top_k, seed: 1234, seq_len, device }
}

/// Logits that are minus infinity but for those of a, b, c and so on.
fn logits(of_letters: &[f64]) -> Tensor {
    let logits = Tensor::full([300], f64::NEG_INFINITY, (Kind::Double, Device::Cpu));
    logits.i(97..97 + of_letters.len() as i64).copy_(&Tensor::from_slice(of_letters));
    let _ = logits.i(256..).fill_(9.0); // of a padded vocabulary: never drawn
    logits
}

/// How often each of the letters is drawn, of so many draws.
fn counts(sampling: &Sampling, of_letters: &[f64]) -> Vec<usize> {
    let logits = logits(of_letters);
    let text = sampling.text(|_, _| Ok(logits.shallow_clone())).unwrap();
    let drawn = &text.as_bytes()[sampling.prompt.len()..];
    let counts: Vec<_> = (b'a'..)
        .take(of_letters.len())
        .map(|letter| drawn.iter().filter(|&&byte| byte == letter).count())
        .collect();
    assert_eq!(counts.iter().sum::<usize>(), sampling.tokens, "{text}");
    counts
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
fn tokens_come_as_often_as_softmax_says_at_every_temperature() {
    let letters = [1.0, 0.3, -0.5, 0.3];
    for (temperature, top_k, kept) in [
        (1.0, None, [1.0, 1.0, 1.0, 1.0]),
        (0.5, None, [1.0, 1.0, 1.0, 1.0]),
        (2.0, None, [1.0, 1.0, 1.0, 1.0]),
        (1.0, Some(3), [1.0, 1.0, 0.0, 1.0]),
        (0.7, Some(2), [1.0, 1.0, 0.0, 0.0]), // of two equal ones the first
        (1.0, Some(300), [1.0, 1.0, 1.0, 1.0]),
    ] {
        let sampling = Sampling { temperature, top_k, ..sampling("a", 2000, 1) };
        let drawn = counts(&sampling, &letters);
        let weights: Vec<f64> =
            letters.iter().zip(kept).map(|(l, kept)| kept * (l / temperature).exp()).collect();
        for (weight, drawn) in weights.iter().zip(&drawn) {
            let expected = weight / weights.iter().sum::<f64>();
            let share = *drawn as f64 / 2000.0;
            // Five standard deviations of 2,000 draws.
            let bound = 5.0 * (expected * (1.0 - expected) / 2000.0).sqrt();
            assert!((share - expected).abs() <= bound, "{temperature} {top_k:?}: {drawn:?}");
        }
        assert_eq!(drawn, counts(&sampling, &letters), "the seed decides");
        assert_ne!(drawn, counts(&Sampling { seed: 1, ..sampling }, &letters), "and nothing else");
    }
}

#[test]
fn at_temperature_0_and_of_the_likeliest_one_the_highest_logit_is_taken() {
    let letters = [0.1, 0.4, 0.3999, 0.4, -2.0];
    for (temperature, top_k) in [(0.0, None), (0.0, Some(3)), (1.0, Some(1)), (100.0, Some(1))] {
        let sampling = Sampling { temperature, top_k, ..sampling("x", 50, 1) };
        assert_eq!(counts(&sampling, &letters), [0, 50, 0, 0, 0], "{temperature} {top_k:?}");
    }
    // So says libtorch of random logits.
    let mut random = Random::new(3, 0);
    for _ in 0..100 {
        let logits: Vec<f64> = (0..50).map(|_| random.unit() as f32 as f64).collect();
        let greedy = Sampling { temperature: 0.0, ..sampling("x", 1, 1) };
        let argmax = Tensor::from_slice(&logits).argmax(0, false).int64_value(&[]);
        assert_eq!(greedy.draw(&logits, random.unit()) as i64, argmax);
    }
}

#[test]
fn no_sample_runs_no_model() {
    sampling("a", 0, 1).print(true, |_, _| panic!("not asked for")).unwrap();
}
