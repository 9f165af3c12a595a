//! Step 1, one device: the pieces by their formulas, then training against transformers.

use autograd::Rotation;
use checkpoint::{LlamaConfig, RopeScaling, Weights};
use cli::TrainConfig;
use data::MicroBatch;
use lessons::{
    Expected, Model, alone, check, check_bits, check_number, check_number_within, check_within,
    micro_batches, numbers, one_device, scratch, start,
};
use report::Trace;
use std::collections::BTreeMap;
use std::f64::consts::PI;
use std::path::Path;
use step01::config::Config;
use step01::layers::{Loader, Parameter, RmsNorm};
use step01::optimizer::{clip_grads, grad_norm, learning_rate};
use step01::rotary::rotary;
use step01::train::Trainer;
use tch::{Device, Kind, Tensor, no_grad};

const HERE: &str = "the only device";

// Positions

/// Eight dimensions a head; with a scaling, pairs of all three kinds.
fn config(scaled: bool) -> LlamaConfig {
    let scaling = RopeScaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    LlamaConfig {
        hidden_size: 32,
        num_attention_heads: 4,
        num_hidden_layers: 1,
        max_position_embeddings: 200,
        rope_theta: 100.0,
        rope_scaling: scaled.then_some(scaling),
        ..LlamaConfig::default()
    }
}

/// By how much each pair has turned at each position: [positions, head_dim/2], from the first of
/// its two numbers being 1 and the second 0.
fn turned(rotation: &Rotation, positions: i64, kind: Kind) -> [Tensor; 2] {
    let one = Tensor::ones([1, positions, 1, 4], (kind, Device::Cpu));
    let x = Tensor::cat(&[&one, &one.zeros_like()], -1);
    let y = rotation.first(positions).apply(&x).unwrap().squeeze_dim(0).squeeze_dim(1);
    [y.narrow(1, 0, 4), y.narrow(1, 4, 4)]
}

fn angles(frequencies: &[f64], positions: i64) -> Tensor {
    Tensor::arange(positions, (Kind::Double, Device::Cpu)).outer(&Tensor::from_slice(frequencies))
}

#[test]
fn pair_i_turns_by_theta_to_the_minus_2i_over_d_a_position() {
    let [cos, sin] = turned(&rotary(&config(false), Kind::Double, Device::Cpu), 50, Kind::Double);
    let frequencies: Vec<f64> = (0..4).map(|i| 100f64.powf(-2.0 * i as f64 / 8.0)).collect();
    let angles = angles(&frequencies, 50);
    let of = |what| Expected { what, place: HERE, from: "position · θ^(−2i/d)" };
    check(&of("the cosine of the angle [position, pair]"), &angles.cos(), &cos);
    check(&of("the sine of the angle [position, pair]"), &angles.sin(), &sin);
}

#[test]
fn the_last_position_of_the_model_has_an_angle_too() {
    let rotation = rotary(&config(false), Kind::Double, Device::Cpu);
    let [cos, _] = turned(&rotation, 200, Kind::Double);
    let expected = 199f64.cos();
    let of = Expected { what: "the first cosine of position 199", place: HERE, from: "cos 199" };
    check_number(&of, expected, cos.double_value(&[199, 0]));
}

/// In f32 an angle of 100,000 is wrong by several thousandths.
#[test]
fn angles_are_computed_in_f64_whatever_the_model_computes_in() {
    let config = LlamaConfig { max_position_embeddings: 100_001, ..config(false) };
    let [cos, _] = turned(&rotary(&config, Kind::Float, Device::Cpu), 100_001, Kind::Float);
    let frequency = 100f64.powf(-0.25);
    let expected = (100_000.0 * frequency).cos();
    let of =
        Expected { what: "the second cosine of position 100,000", place: HERE, from: "f64 angles" };
    check_number_within(&of, 1e-5, expected, cos.double_value(&[100_000, 1]));
}

#[test]
fn llama_31_slows_the_pairs_that_turn_seldom() {
    let plain: Vec<f64> = (0..4).map(|i| 100f64.powf(-2.0 * i as f64 / 8.0)).collect();
    // Turns within the original 64 positions: 10.2, 3.2, 1.02, 0.32.
    let expected: Vec<f64> = plain
        .iter()
        .map(|frequency| {
            let turns = 64.0 * frequency / (2.0 * PI);
            match turns {
                turns if turns > 4.0 => *frequency,
                turns if turns < 1.0 => frequency / 8.0,
                turns => {
                    let keep = (turns - 1.0) / 3.0;
                    frequency * keep + frequency / 8.0 * (1.0 - keep)
                }
            }
        })
        .collect();
    let [_, sin] = turned(&rotary(&config(true), Kind::Double, Device::Cpu), 2, Kind::Double);
    for (i, (expected, what)) in expected
        .iter()
        .zip(["turns often and is kept", "is in between", "is in between", "turns seldom"])
        .enumerate()
    {
        let what = format!("the frequency of pair {i}, which {what},");
        let of = Expected { what: &what, place: HERE, from: "the formula" };
        check_number(&of, *expected, sin.double_value(&[1, i as i64]).asin());
    }
}

// The norm of a row

#[test]
fn a_norm_divides_by_the_root_of_the_mean_square_and_multiplies_by_its_gain() {
    alone(|| {
        let config = LlamaConfig { rms_norm_eps: 0.25, ..config(false) };
        let weights = Weights::seeded(1, &config, Kind::Double, Device::Cpu);
        let mut load = Loader { weights: &weights, parameters: vec![] };
        let norm = RmsNorm::new(&config, &mut load, "model.norm").unwrap();
        let gain = numbers(3, &[32]) + 1.5;
        no_grad(|| load.parameters[0].tensor.shallow_clone().copy_(&gain));
        let x = numbers(4, &[2, 3, 32]);
        let mean = x.square().mean_dim(-1, true, Kind::Double);
        let expected = &x / (mean + 0.25).sqrt() * &gain;
        let of = Expected { what: "the norm", place: HERE, from: "x / √(mean(x²) + ε) · w" };
        check(&of, &expected, &norm.forward(&x).detach());
        let half = norm.forward(&x.to_kind(Kind::BFloat16));
        assert_eq!(half.kind(), Kind::BFloat16, "the norm of a bf16 row must be bf16 again");
    });
}

// Clipping and the learning rate

#[test]
fn gradients_above_the_limit_are_scaled_down_to_it() {
    let grads = [numbers(1, &[3, 4]), numbers(2, &[5])];
    let norm = grad_norm(&grads).unwrap();
    let whole = norm.double_value(&[]);
    let scaled = grads.each_ref().map(Tensor::copy);
    clip_grads(&scaled, &norm, 0.5).unwrap();
    for (grad, got) in grads.iter().zip(&scaled) {
        let of =
            Expected {
                what: "the clipped gradient", place: HERE, from: "g · c / (‖g‖ + 1e-6)"
            };
        check(&of, &(grad * (0.5 / (whole + 1e-6))), got);
    }
}

#[test]
fn gradients_below_the_limit_are_left_alone() {
    let grads = [numbers(1, &[3, 4]), numbers(2, &[5])];
    let norm = grad_norm(&grads).unwrap();
    for (clip, why) in [(1e3, "a limit far above their norm"), (0.0, "clipping turned off by 0")] {
        let scaled = grads.each_ref().map(Tensor::copy);
        clip_grads(&scaled, &norm, clip).unwrap();
        for (grad, got) in grads.iter().zip(&scaled) {
            let what = format!("the gradient under {why}");
            check_bits(&Expected { what: &what, place: HERE, from: "the gradient" }, grad, got);
        }
    }
}

fn schedule(warmup: usize) -> TrainConfig {
    let run = format!("--steps 100 --warmup {warmup} --lr 0.4 --min-lr 0.1");
    start::<Config>(1, &Model::default().flags(&run)).config.train
}

#[test]
fn the_learning_rate_warms_up_falls_along_half_a_cosine_and_stays() {
    let cases = [
        (10, 0, 0.04, "the first update of a warm-up of ten"),
        (10, 9, 0.4, "its last"),
        (10, 10, 0.4, "the first update after it"),
        (10, 55, 0.25, "half-way down"),
        (10, 32, 0.1 + 0.15 * (1.0 + (PI * 22.0 / 90.0).cos()), "a quarter of the way down"),
        (10, 100, 0.1, "the end"),
        (10, 250, 0.1, "long after it"),
        (0, 0, 0.4, "the first update without a warm-up"),
    ];
    for (warmup, step, expected, when) in cases {
        let got = learning_rate(&schedule(warmup), step);
        let what = format!("the learning rate at {when} (step {step})");
        check_number(&Expected { what: &what, place: HERE, from: "the formula" }, expected, got);
    }
}

// The whole

fn fixture(name: &str) -> BTreeMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
    let tensors = Tensor::read_safetensors(path.join("expected.safetensors")).unwrap();
    tensors.into_iter().collect()
}

/// Losses, norms and last weights of three updates, here and by transformers: plain rotary angles
/// and a head of its own; Llama 3.1's angles and a tied head.
fn against_transformers(test: impl Fn(&BTreeMap<String, Tensor>, &[[f64; 2]], &[Parameter], &str)) {
    alone(|| {
        for name in ["tiny-llama", "tiny-llama3"] {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
            let expected = fixture(name);
            let tokens = scratch(&format!("few-{:?}.bin", std::thread::current().id()));
            std::fs::write(&tokens, [1, 0].repeat(1000)).unwrap();
            let run = format!(
                "--hf-model {} --data {} --dtype f64 --seq-len 24 --global-batch 4 \
                 --micro-batch 2 --steps 3 --lr 1e-2 --min-lr 1e-3 --warmup 1 \
                 --weight-decay 0.1 --clip 1.0 --sample 0",
                dir.display(),
                tokens.display()
            );
            let flags: Vec<String> = run.split_whitespace().map(str::to_owned).collect();
            let mut start = start::<Config>(1, &flags);
            let text = step01::text::open(&mut start).unwrap();
            let mut trainer = Trainer::new(&start.config, &text, Trace::off()).unwrap();
            let tokens = &expected["tokens"]; // [4, 25]
            let half = |i: i64| MicroBatch {
                inputs: tokens.narrow(0, 2 * i, 2).narrow(1, 0, 24),
                targets: tokens.narrow(0, 2 * i, 2).narrow(1, 1, 24),
            };
            let halves = [half(0), half(1)];
            let stats: Vec<[f64; 2]> = (0..3)
                .map(|_| trainer.update(&halves).unwrap())
                .map(|stats| [stats.loss, stats.grad_norm])
                .collect();
            test(&expected, &stats, trainer.model.parameters(), name);
        }
    });
}

#[test]
fn the_first_loss_is_that_of_transformers() {
    against_transformers(|expected, stats, _, name| {
        let what = format!("the first loss of {name}");
        let of = Expected { what: &what, place: HERE, from: "transformers" };
        check_number_within(&of, 1e-5, expected["losses"].double_value(&[0]), stats[0][0]);
    });
}

#[test]
fn the_gradient_norm_is_that_of_transformers() {
    against_transformers(|expected, stats, _, name| {
        let what = format!("the first gradient norm of {name}");
        let of = Expected { what: &what, place: HERE, from: "transformers" };
        // Two f32 attention kernels already differ by 2e-5.
        check_number_within(&of, 1e-4, expected["grad_norms"].double_value(&[0]), stats[0][1]);
    });
}

#[test]
fn gradients_add_up_over_micro_batches() {
    let model = Model::default();
    let all = micro_batches(6, 1, model.vocab);
    let cat =
        |of: fn(&MicroBatch) -> &Tensor| Tensor::cat(&all.iter().map(of).collect::<Vec<_>>(), 0);
    let one = MicroBatch { inputs: cat(|m| &m.inputs), targets: cat(|m| &m.targets) };
    let whole = one_device(model, "--global-batch 6 --micro-batch 6", &[one], 2);
    let parts = one_device(model, "--global-batch 6 --micro-batch 1", &all, 2);
    for (step, (whole, parts)) in whole.updates.iter().zip(&parts.updates).enumerate() {
        let from = "one micro-batch of all six sequences";
        let what = format!("over six micro-batches, the loss of update {}", step + 1);
        let of = Expected { what: &what, place: HERE, from };
        check_number(&of, whole.stats.loss, parts.stats.loss);
        for (whole, part) in whole.held.iter().zip(&parts.held).rev() {
            let what = format!("in update {}, the gradient of {}", step + 1, whole.name);
            check(&Expected { what: &what, place: HERE, from }, &whole.grad, &part.grad);
        }
    }
}

#[test]
fn every_weight_is_that_of_transformers_after_three_updates() {
    against_transformers(|expected, stats, parameters, name| {
        for (step, stats) in stats.iter().enumerate() {
            let what = format!("the loss of update {} of {name}", step + 1);
            let of = Expected { what: &what, place: HERE, from: "transformers" };
            check_number_within(
                &of,
                1e-5,
                expected["losses"].double_value(&[step as i64]),
                stats[0],
            );
        }
        for parameter in parameters {
            let what = format!("after three updates of {name}, the weight {}", parameter.name);
            let of = Expected { what: &what, place: HERE, from: "transformers" };
            let theirs = &expected[&format!("final.{}", parameter.name)];
            // Where a gradient is nearly zero, AdamW turns f32 rounding into part of a step.
            check_within(&of, 2e-2, theirs, &parameter.tensor);
        }
    });
}
