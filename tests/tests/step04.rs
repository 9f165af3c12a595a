//! step04: stages that hand activations on compute what one device computes.

mod common;

use common::{
    Model, assert_killed_rank_is_named, assert_launchers_agree, most_in_flight, ring_bytes,
    without_norm,
};
use parity::{Bound, Record, compare, parse, record, whole};
use report::Pass;
use std::process::Command;
use std::time::Duration;
use step04::config::Schedule::{self, AllForwardAllBackward, OneForwardOneBackward};
use step04::schedule::{passes, stages};
use tch::{Device, Kind, Tensor};

const SCHEDULES: [Schedule; 2] = [AllForwardAllBackward, OneForwardOneBackward];

/// Nine layers: no pipeline of more than one and fewer than nine stages divides them, but three.
fn model(tied: bool) -> Model {
    Model { tied, layers: 9, ..Model::default() }
}

#[test]
fn every_layout_computes_what_step01_computes() {
    let batch = "--global-batch 8 --micro-batch 1"; // 8/dp micro-batches
    for tied in [false, true] {
        let reference = model(tied).reference(batch);
        for world in [1, 2, 4, 8] {
            for (dp, pp, tp) in layouts(world) {
                for schedule in SCHEDULES {
                    let run = format!(
                        "{batch} --dp {dp} --pp {pp} --tp {tp} --schedule {}",
                        cli::word(&schedule)
                    );
                    let what = format!("{run}, tied {tied}");
                    let records = record(4, &model(tied).flags(&run)).unwrap();
                    assert_eq!(records.len(), world);
                    let run = whole(&what, &records);
                    let worst = compare(&what, &reference, &run, Bound::REORDERED);
                    println!("{what}: largest relative error {worst:.1e}");
                }
            }
        }
    }
}

/// Every (dp, pp, tp) whose product is `world`.
fn layouts(world: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let divides = move |n: &usize| world.is_multiple_of(*n);
    let pairs = move |dp: usize| (1..=world / dp).map(move |pp| (dp, pp, world / dp / pp));
    (1..=world).filter(divides).flat_map(pairs).filter(move |(dp, pp, tp)| dp * pp * tp == world)
}

#[test]
fn any_number_of_stages_and_micro_batches_computes_the_same_bits_and_never_hangs() {
    for micro_batches in 1..=8 {
        let batch = format!("--global-batch {micro_batches} --micro-batch 1 --clip 0");
        let reference = without_norm(model(false).reference(&batch));
        for pp in 1..=8 {
            for schedule in SCHEDULES {
                let run = format!("{batch} --pp {pp} --schedule {}", cli::word(&schedule));
                let records = record(4, &model(false).flags(&run)).unwrap();
                compare(&run, &reference, &without_norm(whole(&run, &records)), Bound::Bits);
            }
        }
    }
}

#[test]
fn the_two_schedules_agree_bit_for_bit_with_tied_embeddings_too() {
    let run = |schedule| {
        let run = format!(
            "--global-batch 8 --micro-batch 2 --dp 2 --pp 3 --schedule {}",
            cli::word(&schedule)
        );
        whole(&run, &record(4, &model(true).flags(&run)).unwrap())
    };
    let [afab, one] = SCHEDULES.map(run);
    compare("1f1b against afab", &afab, &one, Bound::Bits);
}

#[test]
fn a_stage_keeps_the_activations_of_no_more_micro_batches_than_stages_follow_it() {
    let (pp, micro_batches) = (4, 8);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    for schedule in SCHEDULES {
        let run = format!(
            "--global-batch {micro_batches} --micro-batch 1 --pp {pp} --schedule {} --steps 1 --trace {}",
            cli::word(&schedule),
            path.display()
        );
        let config = parse::<step04::config::Config>(&model(false).flags(&run)).unwrap();
        launch::launch(&config.launch(), move |mesh| {
            step04::train::run(&config, config.texts(), mesh)
        })
        .unwrap();
        let made = common::passes(&path);
        for (stage, made) in made.iter().enumerate() {
            assert_eq!(*made, passes(schedule, stage, pp, micro_batches), "{schedule:?}");
        }
        let expected = match schedule {
            AllForwardAllBackward => [8, 8, 8, 8],
            OneForwardOneBackward => [4, 3, 2, 1],
        };
        let in_flight: Vec<usize> = made.iter().map(|made| most_in_flight(made)).collect();
        assert_eq!(in_flight, expected, "{schedule:?}");
    }
}

#[test]
fn a_schedule_makes_every_pass_once_and_in_order() {
    for schedule in SCHEDULES {
        for (stages, micro_batches) in (1..=8).flat_map(|s| (1..=9).map(move |m| (s, m))) {
            for stage in 0..stages {
                let passes = passes(schedule, stage, stages, micro_batches);
                let of = |wanted: fn(&Pass) -> Option<usize>| -> Vec<usize> {
                    passes.iter().filter_map(wanted).collect()
                };
                let in_order: Vec<usize> = (0..micro_batches).collect();
                let forward = |p: &Pass| if let Pass::Forward(i) = *p { Some(i) } else { None };
                let backward = |p: &Pass| if let Pass::Backward(i) = *p { Some(i) } else { None };
                assert_eq!(of(forward), in_order);
                assert_eq!(of(backward), in_order);
                for i in in_order {
                    let at = |pass| passes.iter().position(|p| *p == pass);
                    assert!(at(Pass::Forward(i)) < at(Pass::Backward(i)));
                }
            }
        }
    }
}

/// The book cannot call the step: it reads a file.
#[test]
fn the_book_draws_the_lists_of_the_trainer() {
    let file = include_str!("../../book/pictures/schedules.txt");
    let mut lines = file.lines().filter(|line| !line.starts_with('#'));
    for schedule in SCHEDULES {
        assert_eq!(lines.next().unwrap(), cli::word(&schedule));
        for stage in 0..4 {
            let words = passes(schedule, stage, 4, 8).into_iter().map(|pass| match pass {
                Pass::Forward(i) => format!("F{i}"),
                Pass::Backward(i) => format!("B{i}"),
            });
            assert_eq!(lines.next().unwrap(), words.collect::<Vec<_>>().join(" "));
        }
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn stages_are_cut_where_the_slowest_is_fastest() {
    let config = |vocab_size, layers: usize| {
        let model = parse::<step04::config::Config>(&model(false).flags("")).unwrap().model.clone();
        checkpoint::LlamaConfig { vocab_size, num_hidden_layers: layers as i64, ..model }
    };
    // By hand, in multiplications a token: a layer is 32·(2·64 + 2·32 + 3·48) + 64·16 = 11,776, and
    // so a head of 368 words is one layer, of 1,840 five.
    let lengths = |vocab, layers, pp| -> Vec<i64> {
        let stages = stages(&config(vocab, layers), 16, pp);
        assert_eq!((stages[0].start, stages[pp - 1].end), (0, layers as i64));
        assert!(stages.windows(2).all(|pair| pair[0].end == pair[1].start));
        stages.iter().map(|s| s.end - s.start).collect()
    };
    assert_eq!(lengths(256, 8, 1), [8]);
    assert_eq!(lengths(368, 7, 2), [4, 3]);
    assert_eq!(lengths(368, 8, 3), [3, 3, 2]);
    assert_eq!(lengths(1840, 11, 3), [5, 5, 1]);
    assert_eq!(lengths(60_000, 4, 4), [1, 1, 1, 1]);
    // A ninth layer goes to the last of the stages that have least to do: it keeps
    // fewer activations.
    assert_eq!(lengths(1, 9, 4), [2, 2, 3, 2]);
}

#[test]
fn what_stages_send_is_the_formula() {
    let (hidden, seq, micro_batch, micro_batches) = (32, 16, 2, 4);
    for (tied, pp, tp) in [(false, 4, 1), (true, 2, 2), (true, 3, 1), (true, 1, 2)] {
        let global_batch = micro_batch * micro_batches;
        let run = format!(
            "--global-batch {global_batch} --micro-batch {micro_batch} --pp {pp} --tp {tp}"
        );
        let records = record(4, &model(tied).flags(&run)).unwrap();
        for Record { coords, stats, .. } in &records {
            let (first, last) = (coords.pp == 0, coords.pp + 1 == pp);
            let activations = micro_batch * seq * hidden * 8;
            // Activations to the stage behind, gradients to the one before.
            let passes = (usize::from(!first) + usize::from(!last)) * micro_batches * activations;
            let ends = if tied && first != last { 256 / tp * hidden * 8 } else { 0 };
            let numbers = 2 * ring_bytes(1, 8, coords.pp, pp); // the loss and the gradient norm
            for stats in stats {
                let expected = (passes + ends) as u64 + numbers;
                assert_eq!(stats.comm_bytes["pp"], expected, "{run}, tied {tied}, {coords}");
            }
        }
    }
}

#[test]
fn gradients_are_summed_over_replicas_while_the_last_backward_pass_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    let run = format!(
        "--global-batch 16 --micro-batch 4 --dp 2 --pp 2 --seq-len 64 --steps 3 --bucket-mb 0.01 --trace {}",
        path.display()
    );
    let config = parse::<step04::config::Config>(&model(false).flags(&run)).unwrap();
    launch::launch(&config.launch(), move |mesh| step04::train::run(&config, config.texts(), mesh))
        .unwrap();
    let spans = common::spans(&path);
    let sums = |name: &'static str| {
        let during = |sum: &&common::Span| {
            let mut passes = spans.iter().filter(|s| s.rank == sum.rank && s.name == name);
            passes.any(|pass| pass.start < sum.start && sum.start < pass.end)
        };
        spans
            .iter()
            .filter(|s| s.track == "dp" && s.name.contains("all_reduce"))
            .filter(during)
            .count()
    };
    // Two micro-batches a replica: nothing travels during the first one's passes.
    assert_eq!((sums("backward 0"), sums("forward 0"), sums("forward 1")), (0, 0, 0));
    assert!(sums("backward 1") >= 4, "{}", sums("backward 1"));
    assert!(path.with_extension("svg").exists());
}

#[test]
fn the_next_token_is_scored_alike_on_all_ranks_and_as_by_step01() {
    let tokens =
        || (Tensor::arange(16, (Kind::Int64, Device::Cpu)) * 37 + 5).fmod(256).unsqueeze(0);
    for tied in [false, true] {
        let config = parse::<step01::config::Config>(&model(tied).flags("")).unwrap();
        let one =
            step01::train::Trainer::new(&config, config.texts(), report::Trace::off()).unwrap();
        let expected = tch::no_grad(|| one.model.forward(&tokens())).unwrap().get(0).get(9); // [vocab]
        let config = parse::<step04::config::Config>(&model(tied).flags("--pp 3 --tp 2")).unwrap();
        let scores = launch::launch(&config.launch(), move |mesh| {
            let trainer = step04::train::Trainer::new(&config, config.texts(), mesh)?;
            tch::no_grad(|| trainer.next_token(&tokens(), 9))
        });
        for scores in scores.unwrap() {
            assert_eq!(scores.size(), [256]);
            assert!((scores - &expected).abs().max().double_value(&[]) < 1e-12);
        }
    }
}

#[test]
fn all_three_launchers_compute_the_same_bits() {
    let run = "--global-batch 8 --micro-batch 2 --pp 2 --tp 2";
    assert_launchers_agree(4, 4, &model(true).flags(run));
}

#[test]
fn a_rank_killed_in_the_middle_of_a_pipeline_ends_the_run_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = "--global-batch 8 --micro-batch 1 --pp 4 --steps 1000000 --launcher processes";
    let mut parent = Command::new(env!("CARGO_BIN_EXE_record"));
    parent.arg("4").arg(dir.path()).args(model(false).flags(run));
    assert_killed_rank_is_named(parent, 4, 2, "dp0 pp2 cp0 tp0", Duration::from_secs(5));
}
