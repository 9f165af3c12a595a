//! What runs of all steps are held to alike: a loss in several chunks, a text of all words, first
//! weights that are made equal, sums in bf16.

mod common;

use comm::Layout;
use common::{Model, layout_flags};
use parity::{Bound, compare, parse, record, record_with, whole};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// From (dp, pp, cp, tp).
fn layout((dp, pp, cp, tp): (usize, usize, usize, usize)) -> Layout {
    Layout { dp, pp, cp, tp }
}

/// The flags of a layout for `step`: of the dimensions that it knows.
fn flags_of(step: u8, layout: Layout) -> String {
    let flags = layout_flags(layout);
    let words: Vec<&str> = flags.split(' ').collect();
    let known = |pair: &&[&str]| match pair[0] {
        "--dp" => step >= 2,
        "--tp" => step >= 3,
        "--pp" => step >= 4,
        _ => step >= 5,
    };
    words.chunks(2).filter(known).map(|pair| pair.join(" ")).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_loss_in_several_chunks_is_that_of_single_sequences() {
    // 640 tokens on each rank: a chunk of 512 and one of 128. The reference has 80 of 16.
    let reference = Model::default().reference("--global-batch 80 --micro-batch 1 --steps 2");
    for (step, micro_batch, split) in [
        (1, 80, (1, 1, 1, 1)),
        (2, 40, (2, 1, 1, 1)),
        (3, 40, (2, 1, 1, 2)),
        (4, 40, (1, 2, 1, 2)),
        (5, 80, (1, 1, 2, 2)),
        (6, 80, (1, 2, 2, 1)),
        (7, 80, (1, 2, 1, 2)),
    ] {
        let batch = format!("--global-batch 80 --micro-batch {micro_batch} --steps 2");
        let run = format!("{batch} {}", flags_of(step, layout(split)));
        let what = format!("step {step}, {run}");
        let records = record(step, &Model::default().flags(&run)).unwrap();
        compare(&what, &reference, &whole(&what, &records), Bound::REORDERED);
    }
}

#[test]
fn every_word_of_an_uneven_vocabulary_is_read_and_learnt() {
    // Of 259 words, some ranks hold one more than others. A step reads 544 tokens: every
    // word at least once.
    let model = Model { vocab: 259, ..Model::default() };
    let batch = "--global-batch 34 --micro-batch 17 --steps 2";
    let reference = model.reference(batch);
    for (step, split) in [
        (3, (1, 1, 1, 2)),
        (3, (1, 1, 1, 8)),
        (4, (1, 2, 1, 4)),
        (5, (1, 2, 1, 2)),
        (6, (1, 1, 1, 4)),
        (7, (1, 1, 1, 8)),
        (7, (1, 2, 2, 2)),
    ] {
        let run = format!("{batch} {}", flags_of(step, layout(split)));
        let what = format!("step {step}, {run}");
        let records = record(step, &model.flags(&run)).unwrap();
        for record in &records {
            let Some(grad) = record.grads[0].get("model.embed_tokens.weight") else { continue };
            let rows = grad.abs().amax(1, false); // [vocab/tp]
            let unread = rows.eq(0.0).sum(Kind::Int64).int64_value(&[]);
            assert_eq!(unread, 0, "{what}: of {} on {}", rows.numel(), record.coords);
        }
        compare(&what, &reference, &whole(&what, &records), Bound::REORDERED);
    }
}

#[test]
fn replicas_seeded_differently_still_start_equal() {
    // (As step02's tests show of its two ways to sum.) Ranks that split a matrix or the
    // layers draw their parts from one seed; those that hold the same weights, dp × cp, get
    // them from the first.
    let batch = "--global-batch 8 --micro-batch 1";
    let reference = Model::default().reference(batch);
    for (step, split) in [
        (3, (2, 1, 1, 2)),
        (4, (2, 2, 1, 1)),
        (5, (1, 1, 2, 2)),
        (5, (2, 1, 2, 1)),
        (6, (2, 2, 2, 1)),
        (7, (2, 1, 2, 2)),
    ] {
        let layout = layout(split);
        let run = format!("{batch} {}", flags_of(step, layout));
        let reseed = move |train: &mut cli::TrainConfig, rank| {
            let at = layout.coords(rank);
            train.seed += 100 * (at.dp * layout.cp + at.cp) as u64;
        };
        let what = format!("step {step}, {run}");
        let records = record_with(step, &Model::default().flags(&run), reseed).unwrap();
        compare(&what, &reference, &whole(&what, &records), Bound::REORDERED);
    }
}

/// Queries, keys, values and the gradient of the output, each `[2, SEQ, heads, HEAD_DIM]`.
fn inputs(kind: Kind) -> [Tensor; 4] {
    [0, 1, 2, 3].map(|which| {
        let mut random = data::Random::new(11, which);
        let heads = if which % 3 == 0 { 4 } else { 2 };
        let shape = [2, SEQ, heads, HEAD_DIM];
        // Sums of three, as near to a normal distribution as matters here.
        let mut number = || 2.0 * (random.unit() + random.unit() + random.unit() - 1.5);
        let numbers: Vec<f64> = (0..shape.iter().product()).map(|_| number()).collect();
        // All kinds start from numbers that bf16 can hold.
        Tensor::from_slice(&numbers).view(shape).to_kind(Kind::BFloat16).to_kind(kind)
    })
}

const SEQ: i64 = 128;
const HEAD_DIM: i64 = 16;

/// What attention gives and the gradients of queries, keys and values.
fn attend(
    inputs: [Tensor; 4],
    attention: impl Fn(&Tensor, &Tensor, &Tensor) -> anyhow::Result<Tensor>,
) -> anyhow::Result<[Tensor; 4]> {
    let [q, k, v, grad] = inputs;
    let [q, k, v] = [q, k, v].map(|t| t.set_requires_grad(true));
    let out = attention(&q, &k, &v)?;
    autograd::backward_with(&out, &grad)?;
    Ok([out.detach(), q.grad(), k.grad(), v.grad()])
}

/// [`attend`] on the ranks of a ring, put together again.
macro_rules! ring {
    ($step:ident, $number:literal, $layout:expr, $cp:expr) => {{
        let flags = format!("--seq-len {SEQ} --cp {} --cp-layout {} --dtype bf16", $cp, $layout);
        let config = parse::<$step::config::Config>(&Model::default().flags(&flags)).unwrap();
        let parts = launch::launch(&config.launch(), move |mesh| {
            let cp = $step::context_parallel::ContextParallel::new(&config, mesh);
            let own = inputs(Kind::BFloat16).map(|t| t.index_select(1, &cp.positions));
            let computed = attend(own, |q, k, v| cp.attention(q, k, v))?;
            Ok((cp.positions.copy(), computed))
        })
        .unwrap();
        let positions: Vec<&Tensor> = parts.iter().map(|(positions, _)| positions).collect();
        let order = Tensor::cat(&positions, 0).argsort(0, false); // [seq]
        [0, 1, 2, 3].map(|i| {
            let all: Vec<&Tensor> = parts.iter().map(|(_, computed)| &computed[i]).collect();
            Tensor::cat(&all, 1).index_select(1, &order)
        })
    }};
}

#[test]
fn attention_in_bf16_errs_no_more_over_a_ring_than_on_one_rank() {
    // The kernel rounds what it gives for each block to bf16, by up to 2⁻⁸. Weighed and added up in
    // f32, the errors of many blocks average out; in bf16 each block would be rounded once more,
    // and the error would grow with their number. So four ranks may err 1.25 times as much as one
    // (whose own sums are the kernel's affair), and sixteen as two: they err 0.7 to 1.2 times as
    // much, and 1.3 to 1.7 times where the output or a gradient is kept in bf16.
    let one =
        |kind| attend(inputs(kind), |q, k, v| Ok(autograd::causal_attention(q, k, v))).unwrap();
    let (exact, single) = (one(Kind::Double), one(Kind::BFloat16));
    let errors = |run: &[Tensor; 4]| -> Vec<f64> {
        let error = |(run, exact): (&Tensor, &Tensor)| {
            ((run.to_kind(Kind::Double) - exact).norm() / exact.norm()).double_value(&[])
        };
        run.iter().zip(&exact).map(error).collect()
    };
    let single = errors(&single);
    let mut worse = vec![];
    for how in ["contiguous", "zigzag"] {
        let runs = [
            (5, [2, 4, 16].map(|cp| errors(&ring!(step05, 5, how, cp)))),
            (6, [2, 4, 16].map(|cp| errors(&ring!(step06, 6, how, cp)))),
            (7, [2, 4, 16].map(|cp| errors(&ring!(step07, 7, how, cp)))),
        ];
        for (step, [two, four, sixteen]) in runs {
            for (i, name) in ["output", "queries", "keys", "values"].into_iter().enumerate() {
                let errors = [single[i], two[i], four[i], sixteen[i]];
                let [one, two, four, sixteen] = errors;
                let errors = errors.map(|error| format!("{error:.2e}"));
                let what = format!("step {step}, {how}, {name}: cp 1, 2, 4, 16: {errors:?}");
                println!("{what}");
                if four > 1.25 * one || sixteen > 1.25 * two {
                    worse.push(what);
                }
            }
        }
    }
    assert!(worse.is_empty(), "{}", worse.join("\n"));
}

#[test]
fn a_rank_has_the_positions_that_the_layout_of_the_sequence_gives_it() {
    let seq = 24;
    for (how, cp, expected) in [
        // By hand.
        ("contiguous", 2, vec![(0, 0..12), (1, 12..24)]),
        ("zigzag", 2, vec![(0, 0..6), (0, 18..24), (1, 6..18)]),
        ("zigzag", 3, vec![(0, 0..4), (0, 20..24), (1, 4..8), (1, 16..20), (2, 8..16)]),
    ] {
        let mut of_ranks: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        for (rank, range) in expected {
            of_ranks.entry(rank).or_default().extend(range);
        }
        let flags = format!("--seq-len {seq} --cp {cp} --cp-layout {how} --dp 1 --pp 1 --tp 1");
        macro_rules! check {
            ($step:ident) => {
                let config =
                    parse::<$step::config::Config>(&Model::default().flags(&flags)).unwrap();
                let positions = launch::launch(&config.launch(), move |mesh| {
                    Ok($step::context_parallel::ContextParallel::new(&config, mesh).positions)
                });
                let numbers = |t: Tensor| Vec::<i64>::try_from(t.to_device(Device::Cpu)).unwrap();
                let positions = positions.unwrap().into_iter().map(numbers).enumerate();
                assert_eq!(positions.collect::<BTreeMap<_, _>>(), of_ranks, "{how}");
            };
        }
        check!(step05);
        check!(step06);
        check!(step07);
    }
}

/// A rotation of (1, 0) and of the gradient (1, 0), each `[positions, head_dim]`, by
/// a step's tables.
macro_rules! rotated {
    ($rotary:expr, $half:expr, $kind:expr) => {{
        let table = |value| Tensor::full([1, POSITIONS, 1, $half], value, ($kind, Device::Cpu));
        let one = Tensor::cat(&[table(1.0), table(0.0)], -1); // [1, positions, 1, head_dim]
        let x = one.copy().set_requires_grad(true);
        let rotated = $rotary.apply(&x).unwrap();
        autograd::backward_with(&rotated, &one).unwrap();
        [rotated.detach(), x.grad()].map(|t| t.view([POSITIONS, -1]))
    }};
}

const POSITIONS: i64 = 8192;

#[test]
fn rotary_tables_are_computed_in_f64_and_rounded_once() {
    // bf16 counts to 256 and f32 to 2²⁴; from there on not every position has a number of its own,
    // and an angle, position × frequency, that is rounded errs by whole radians.
    let mut model =
        parse::<step01::config::Config>(&Model::default().flags("")).unwrap().model.clone();
    let (head_dim, half) = (16, 8);
    (model.max_position_embeddings, model.head_dim) = (POSITIONS, Some(head_dim));
    model.rope_scaling = None;
    let frequency = |i: i64| model.rope_theta.powf(-2.0 * i as f64 / head_dim as f64);
    let angles: Vec<f64> = (0..POSITIONS)
        .flat_map(|position| (0..half).map(move |i| (position, i)))
        .map(|(position, i)| position as f64 * frequency(i))
        .collect();
    let angles = Tensor::from_slice(&angles).view([POSITIONS, half]);
    let positions = Tensor::arange(POSITIONS, (Kind::Int64, Device::Cpu));
    for kind in [Kind::BFloat16, Kind::Float, Kind::Double] {
        let expected = [angles.sin(), -angles.sin()]
            .map(|sin| Tensor::cat(&[angles.cos(), sin], 1).to_kind(kind));
        let first = |step| match step {
            1 => rotated!(step01::rotary::rotary(&model, kind, Device::Cpu), half, kind),
            2 => rotated!(step02::rotary::rotary(&model, kind, Device::Cpu), half, kind),
            3 => rotated!(step03::rotary::rotary(&model, kind, Device::Cpu), half, kind),
            4 => rotated!(step04::rotary::rotary(&model, kind, Device::Cpu), half, kind),
            5 => {
                let rotary = step05::rotary::rotary(&model, &positions, kind, Device::Cpu);
                rotated!(rotary, half, kind)
            }
            6 => {
                let rotary = step06::rotary::rotary(&model, &positions, kind, Device::Cpu);
                rotated!(rotary, half, kind)
            }
            _ => {
                let rotary = step07::rotary::rotary(&model, &positions, kind, Device::Cpu);
                rotated!(rotary, half, kind)
            }
        };
        for step in 1..=7 {
            for (what, (ours, theirs)) in
                ["vector", "gradient"].into_iter().zip(first(step).into_iter().zip(&expected))
            {
                let wrong = ours.ne_tensor(theirs).sum(Kind::Int64).int64_value(&[]);
                assert_eq!(wrong, 0, "step {step}, {kind:?}: numbers of a {what} that differ");
            }
        }
    }
}

#[test]
fn all_steps_have_the_learning_rates_of_the_formula() {
    let plain = |train: &cli::TrainConfig, step: usize| {
        let (lr, min_lr) = (train.lr, train.min_lr);
        let [t, warmup, steps] = [step, train.warmup, train.steps].map(|n| n as f64);
        if t < warmup {
            lr * ((t + 1.0) / warmup)
        } else if t < steps {
            let part = (t - warmup) / (steps - warmup);
            (lr + min_lr) / 2.0 + (lr - min_lr) / 2.0 * (std::f64::consts::PI * part).cos()
        } else {
            min_lr
        }
    };
    let mut train =
        parse::<step01::config::Config>(&Model::default().flags("")).unwrap().train.clone();
    for steps in [0, 1, 2, 3, 10, 101] {
        // (No steps with a warm-up are those of a model that is only used.)
        for warmup in [0, 1, 2, 5, 9, 10, 60, 101].into_iter().filter(|n| *n <= steps || steps == 0)
        {
            for (lr, min_lr) in [(1.0, 0.0), (3e-3, 3e-4), (1e-4, 1e-4), (2.0, 1.9)] {
                (train.steps, train.warmup, train.lr, train.min_lr) = (steps, warmup, lr, min_lr);
                for step in (0..steps + 5).chain([1 << 40]) {
                    let rates = [
                        step01::optimizer::learning_rate(&train, step),
                        step02::optimizer::learning_rate(&train, step),
                        step03::optimizer::learning_rate(&train, step),
                        step04::optimizer::learning_rate(&train, step),
                        step05::optimizer::learning_rate(&train, step),
                        step06::optimizer::learning_rate(&train, step),
                        step07::optimizer::learning_rate(&train, step),
                    ];
                    let what =
                        format!("update {step} of {steps}, warm-up {warmup}, {lr} to {min_lr}");
                    assert!(rates.iter().all(|rate| *rate == rates[0]), "{what}: {rates:?}");
                    let error = (rates[0] - plain(&train, step)).abs();
                    assert!(
                        error <= 1e-14 * lr,
                        "{what}: {} is not {}",
                        rates[0],
                        plain(&train, step)
                    );
                }
            }
        }
    }
    // And by hand: up in steps of a quarter, from the first; half of the way down in the
    // middle; at the end.
    (train.steps, train.warmup, train.lr, train.min_lr) = (12, 4, 1.0, 0.2);
    for (step, rate) in [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (8, 0.6), (12, 0.2), (13, 0.2)] {
        approx::assert_relative_eq!(plain(&train, step), rate, max_relative = 1e-14);
    }
}

#[test]
fn losses_and_norms_are_kept_in_f32_where_bf16_is_computed_in() {
    let is_bf16 = |number: f64| (number as f32).to_bits() & 0xffff == 0;
    for step in 1..=7 {
        // One micro-batch of 64 tokens: to divide a sum by 64 rounds nothing.
        let batch = "--global-batch 4 --micro-batch 4 --steps 2 --dtype bf16";
        let run = format!("{batch} {}", flags_of(step, layout((1, 1, 1, 1))));
        for stats in &record(step, &Model::default().flags(&run)).unwrap()[0].stats {
            let (loss, norm) = (stats.loss, stats.grad_norm);
            assert!(!is_bf16(loss) && !is_bf16(norm), "step {step}: {loss} and {norm}");
        }
    }
}

#[test]
fn every_step_knows_which_settings_come_later() {
    let known = [
        cli::names::<step01::config::Config>(),
        cli::names::<step02::config::Config>(),
        cli::names::<step03::config::Config>(),
        cli::names::<step04::config::Config>(),
        cli::names::<step05::config::Config>(),
        cli::names::<step06::config::Config>(),
        cli::names::<step07::config::Config>(),
    ];
    let mut come = vec![];
    for (pair, step) in known.windows(2).zip(2..) {
        assert!(
            pair[0].iter().all(|name| pair[1].contains(name)),
            "step {step} has lost a setting"
        );
        let new = pair[1].iter().filter(|name| !pair[0].contains(name));
        come.extend(new.map(|(table, name)| (step, table.clone(), name.clone())));
    }
    come.sort();
    for step in 1..=7 {
        let later = cli::later_than(step);
        let mut later: Vec<_> =
            later.map(|l| (l.since, l.table.to_owned(), l.name.to_owned())).collect();
        later.sort();
        let expected: Vec<_> = come.iter().filter(|(since, ..)| *since > step).cloned().collect();
        assert_eq!(later, expected, "as step {step} knows them");
    }
}
