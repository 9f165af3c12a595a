//! step01: the reference itself, held against transformers and against itself.

mod common;

use common::{flags, reference};
use data::MicroBatch;
use parity::{Bound, Tensors, compare, record};
use report::Trace;
use std::path::{Path, PathBuf};
use step01::layers::Parameter;
use tch::{Kind, Tensor, no_grad};

/// Models and numbers that tests/fixtures/make_fixture.py got from transformers.
fn fixture(name: &str) -> (PathBuf, Tensors) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let expected = Tensor::read_safetensors(dir.join("expected.safetensors")).unwrap();
    (dir, expected.into_iter().collect())
}

fn trainer(dir: &Path, dtype: &str) -> step01::train::Trainer {
    try_trainer(dir, dtype).unwrap()
}

fn try_trainer(dir: &Path, dtype: &str) -> anyhow::Result<step01::train::Trainer> {
    // The schedule and sizes that make_fixture.py states.
    let run = format!(
        "--hf-model {} --dtype {dtype} --seq-len 24 --global-batch 4 --micro-batch 2 --steps 3 \
         --lr 1e-2 --min-lr 1e-3 --warmup 1 --weight-decay 0.1 --clip 1.0 --sample 0",
        dir.display()
    );
    let mut flags: Vec<String> = run.split_whitespace().map(str::to_owned).collect();
    flags.extend(["--data".into(), tokens_file().display().to_string()]);
    let config = parity::parse::<step01::config::Config>(&flags)?;
    step01::train::Trainer::new(&config, config.texts(), Trace::off())
}

/// Tokens below the fixtures' vocabulary of 96; the tests feed their own batches.
fn tokens_file() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("tokens-{:?}.bin", std::thread::current().id()));
    std::fs::write(&path, [1, 0].repeat(1000)).unwrap();
    path
}

fn relative(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    ((&a - &b).abs().max() / b.abs().max()).double_value(&[])
}

/// Plain rope in one file and an untied head; Llama 3.1's rope scaling, shards and a tied head.
const FIXTURES: [&str; 2] = ["tiny-llama", "tiny-llama3"];

#[test]
fn logits_and_training_are_those_of_transformers() {
    for name in FIXTURES {
        let (dir, expected) = fixture(name);
        let tokens = &expected["tokens"]; // [batch, seq + 1]
        let seq = tokens.size()[1] - 1;
        let (inputs, targets) = (tokens.narrow(1, 0, seq), tokens.narrow(1, 1, seq));
        // f64 on our side as well: what differs then is the reference's own f32 rounding.
        for dtype in ["f32", "f64"] {
            let mut trainer = trainer(&dir, dtype);
            let logits = no_grad(|| trainer.model.forward(&inputs)).unwrap();
            let error = relative(&logits, &expected["logits"]);
            assert!(error < 1e-5, "{name} {dtype}: logits are off by {error:.1e}");

            let micro_batches: Vec<MicroBatch> = (0..2)
                .map(|i| MicroBatch {
                    inputs: inputs.narrow(0, 2 * i, 2),
                    targets: targets.narrow(0, 2 * i, 2),
                })
                .collect();
            for step in 0..3 {
                let stats = trainer.update(&micro_batches).unwrap();
                let number = |key: &str| expected[key].double_value(&[step]);
                let close = |what: &str, ours: f64, theirs: f64, bound: f64| {
                    let error = (ours / theirs - 1.0).abs();
                    assert!(error < bound, "{name} {dtype} step {step}: {what} {ours} {theirs}");
                };
                close("loss", stats.loss, number("losses"), 1e-5);
                close("lr", stats.lr, number("learning_rates"), 1e-12);
                // Two f32 attention kernels already differ by 2e-5 in the norm (make_fixture.py).
                close("gradient norm", stats.grad_norm, number("grad_norms"), 1e-4);
            }
            for Parameter { name, tensor: weight, .. } in trainer.model.parameters() {
                let theirs = expected[&format!("final.{name}")].to_kind(Kind::Double);
                let difference = weight.detach().to_kind(Kind::Double) - &theirs;
                let error = (difference.norm() / theirs.norm()).double_value(&[]);
                // Where a gradient is nearly zero, AdamW's first steps turn rounding into whole
                // steps of the learning rate: between transformers' own two kernels up to 7e-5.
                assert!(error < 3e-4, "{name}: {error:.1e}");
            }
        }
    }
}

/// What transformers makes of tiny-llama where a few keys of its config.json are others: the same
/// is made of it here, or the file is refused.
#[test]
fn no_key_of_a_config_is_passed_over_that_transformers_computes_with() {
    let (dir, expected) = fixture(FIXTURES[0]);
    let tokens = &expected["tokens"];
    let seq = tokens.size()[1] - 1;
    let (inputs, targets) = (tokens.narrow(1, 0, seq), tokens.narrow(1, 1, seq));
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
    };
    let changed = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join("model.safetensors"), changed.path().join("model.safetensors")).unwrap();
    let mut taken = vec![];
    for variant in read("variants.json").as_array().unwrap() {
        let keys = variant["keys"].as_object().unwrap();
        let mut config = read("config.json");
        config.as_object_mut().unwrap().extend(keys.clone());
        std::fs::write(changed.path().join("config.json"), config.to_string()).unwrap();
        let Ok(trainer) = try_trainer(changed.path(), "f32") else { continue };
        let loss = no_grad(|| trainer.model.loss(&inputs, &targets)).unwrap();
        let ours = loss.double_value(&[]) / targets.numel() as f64;
        let what = &variant["keys"];
        let theirs = variant["loss"].as_f64().unwrap_or_else(|| panic!("{what} was taken"));
        assert!((ours / theirs - 1.0).abs() < 1e-5, "{what}: {ours} {theirs}");
        taken.push(keys.keys().cloned().collect::<Vec<_>>().join(" "));
    }
    // Not one of those that change nothing is refused.
    let harmless = ["", "pretraining_tp", "layer_types", "is_causal", "hidden_act", "pad_token_id"];
    assert!(harmless.iter().all(|key| taken.iter().any(|other| other == key)), "{taken:?}");
    assert_eq!(taken.len(), 27, "{taken:?}");
}

/// transformers' embedding has no gradient for `pad_token_id`. Many models pad with the token that
/// ends a text; here it is trained like any other, as if nothing were padded.
#[test]
fn a_token_that_pads_is_trained_like_any_other() {
    let (dir, expected) = fixture(FIXTURES[0]);
    let tokens = &expected["tokens"];
    let seq = tokens.size()[1] - 1;
    let pad = tokens.int64_value(&[0, 0]);
    let padded = tempfile::tempdir().unwrap();
    std::fs::copy(dir.join("model.safetensors"), padded.path().join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(dir.join("config.json")).unwrap();
    let config = config.replace(r#""pad_token_id": null"#, &format!(r#""pad_token_id": {pad}"#));
    std::fs::write(padded.path().join("config.json"), config).unwrap();
    let mut trainer = trainer(padded.path(), "f64");
    let halves = (0..2).map(|i| MicroBatch {
        inputs: tokens.narrow(0, 2 * i, 2).narrow(1, 0, seq),
        targets: tokens.narrow(0, 2 * i, 2).narrow(1, 1, seq),
    });
    let norm = trainer.update(&halves.collect::<Vec<_>>()).unwrap().grad_norm;
    let theirs = expected["grad_norms"].double_value(&[0]);
    assert!((norm / theirs - 1.0).abs() < 1e-4, "{norm}, and {theirs} where nothing is padded");
    let embedding = &trainer.model.parameters()[0];
    assert_eq!(embedding.name, "model.embed_tokens.weight");
    let of_row = embedding.tensor.grad().get(pad).norm().double_value(&[]);
    assert!(of_row > 1e-3 * norm, "the token has {of_row} of the norm {norm}");
}

#[test]
fn f64_stays_f64_throughout() {
    let (dir, expected) = fixture(FIXTURES[0]);
    let trainer = trainer(&dir, "f64");
    let tokens = &expected["tokens"];
    let logits = no_grad(|| trainer.model.forward(tokens)).unwrap();
    assert_eq!(logits.kind(), Kind::Double);
    // An f32 number widened to f64 ends in 29 zero bits. Scores that passed through f32 would too.
    let numbers = Vec::<f64>::try_from(logits.flatten(0, -1)).unwrap();
    let rounded = numbers.iter().filter(|&&x| f64::from(x as f32) == x).count();
    assert!(rounded * 100 < numbers.len(), "{rounded} of {} are f32 numbers", numbers.len());
}

#[test]
fn a_later_token_never_changes_an_earlier_score() {
    let (dir, expected) = fixture(FIXTURES[1]);
    let trainer = trainer(&dir, "f64");
    let tokens = expected["tokens"].copy();
    let before = no_grad(|| trainer.model.forward(&tokens)).unwrap();
    let seq = tokens.size()[1];
    let _ = tokens.select(1, seq - 1).fill_(5);
    let after = no_grad(|| trainer.model.forward(&tokens)).unwrap();
    assert_eq!(before.narrow(1, 0, seq - 1), after.narrow(1, 0, seq - 1));
    assert_ne!(before.select(1, seq - 1), after.select(1, seq - 1));
}

#[test]
fn the_next_token_has_the_scores_of_the_position_before_it() {
    let (dir, expected) = fixture(FIXTURES[0]);
    let model = trainer(&dir, "f64").model;
    let tokens = expected["tokens"].narrow(0, 1, 1); // [1, seq]
    let scores = no_grad(|| model.forward(&tokens)).unwrap().get(0); // [seq, vocab]
    for last in [0, 5, tokens.size()[1] - 1] {
        assert_eq!(no_grad(|| model.next_token(&tokens, last)).unwrap(), scores.get(last));
    }
}

#[test]
fn micro_batches_of_any_size_add_up_to_the_same_update() {
    for tied in [false, true] {
        let whole = reference(tied, "--global-batch 12 --micro-batch 12");
        for micro_batch in [1, 2, 3, 4, 6] {
            let run = format!("--global-batch 12 --micro-batch {micro_batch}");
            compare(&run, &whole, &reference(tied, &run), Bound::REORDERED);
        }
    }
}

#[test]
fn a_run_repeats_bit_for_bit_and_another_seed_does_not() {
    let run = "--global-batch 4 --micro-batch 2";
    let first = reference(false, run);
    compare("again", &first, &reference(false, run), Bound::Bits);
    let other = record(1, &flags(false, &format!("{run} --seed 8"))).unwrap();
    assert_ne!(first["step 1: loss"], other[0].tensors()["step 1: loss"]);
}

#[test]
fn clipping_scales_all_gradients_alike_and_zero_turns_it_off() {
    let run = |clip: f64| {
        let run = format!("--global-batch 4 --micro-batch 2 --steps 1 --clip {clip}");
        record(1, &flags(false, &run)).unwrap().remove(0)
    };
    let (free, clipped, loose) = (run(0.0), run(0.1), run(1e6));
    let norm = free.stats[0].grad_norm;
    assert!(norm > 0.1);
    assert_eq!(clipped.stats[0].grad_norm, norm, "the norm is reported before clipping");
    compare("above the norm", &free.grads[0], &loose.grads[0], Bound::Bits);
    let scaled = free.grads[0].iter().map(|(name, g)| (name.clone(), g * (0.1 / (norm + 1e-6))));
    // One more rounding of each number.
    compare("below", &scaled.collect(), &clipped.grads[0], Bound::Relative(1e-14));
}

#[test]
fn the_learning_rate_rises_in_a_line_and_falls_in_half_a_cosine() {
    let run = "--lr 1e-2 --min-lr 1e-3 --warmup 4 --steps 12 --global-batch 4 --micro-batch 2";
    let train = parity::parse::<step01::config::Config>(&flags(false, run)).unwrap().train.clone();
    let expected = [
        // A quarter, a half, three quarters and all of 0.01.
        0.0025,
        0.005,
        0.0075,
        0.01,
        // 0.001 + 0.009 · (1 + cos(π · k/8)) / 2 for k = 0, 1, … 7.
        0.009999999999999998,
        0.009657457896300788,
        0.008681980515339463,
        0.007222075445642904,
        0.0055,
        0.003777924554357096,
        0.0023180194846605363,
        0.0013425421036992098,
    ];
    for (step, expected) in expected.into_iter().enumerate() {
        let rate = step01::optimizer::learning_rate(&train, step);
        approx::assert_relative_eq!(rate, expected, max_relative = 1e-12);
        let others = [
            step02::optimizer::learning_rate(&train, step),
            step03::optimizer::learning_rate(&train, step),
            step04::optimizer::learning_rate(&train, step),
            step05::optimizer::learning_rate(&train, step),
            step06::optimizer::learning_rate(&train, step),
        ];
        assert_eq!(others, [rate; 5]);
    }
    let rate = step01::optimizer::learning_rate;
    assert_eq!([rate(&train, 12), rate(&train, 30)], [1e-3; 2], "behind the end it stays");
    let only_warmup = cli::TrainConfig { warmup: 12, ..train };
    assert_eq!(rate(&only_warmup, 12), 1e-3, "not 0/0");
}

#[test]
fn bf16_computes_in_bf16_and_keeps_its_weights_in_f32() {
    let run = |dtype: &str| {
        let run = format!("--global-batch 8 --micro-batch 4 --steps 3 --dtype {dtype}");
        record(1, &flags(true, &run)).unwrap().remove(0)
    };
    let (wide, narrow) = (run("f32"), run("bf16"));
    assert!(
        narrow.weights[2].values().chain(narrow.grads[2].values()).all(|t| t.kind() == Kind::Float)
    );
    for (a, b) in narrow.stats.iter().zip(&wide.stats) {
        // bf16 keeps 8 bits, so rounding errs by up to 2⁻⁸; the loss averages over many scores, and
        // errs by less than half of that.
        approx::assert_relative_eq!(a.loss, b.loss, max_relative = 1.0 / 512.0);
        assert_ne!(a.loss, b.loss);
    }
}

#[test]
fn the_default_model_learns_the_tales() {
    let flags = ["--steps", "20", "--sample", "0"].map(str::to_owned);
    let config = parity::parse::<step01::config::Config>(&flags).unwrap();
    let mut trainer = step01::train::Trainer::new(&config, config.texts(), Trace::off()).unwrap();
    let losses: Vec<f64> = (0..20).map(|_| trainer.step().unwrap().loss).collect();
    // Bytes at first are a draw from 256: ln 256 = 5.55, give or take what 0.02-sized
    // weights make of it.
    assert!((losses[0] - 256f64.ln()).abs() < 0.2, "{}", losses[0]);
    // English takes longer than that to fall below 1.5 nats a byte; a model that sees its
    // targets does not.
    assert!(losses[19] < 3.2 && losses[19] > 1.5, "{losses:?}");
}
