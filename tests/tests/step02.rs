//! step02: replicas compute what one device computes.

mod common;

use common::{assert_launchers_agree, flags, reference};
use parity::{Bound, compare, parse, record, record_with, whole};
use step02::data_parallel::DataParallel;
use step02::layers::Parameter;
use tch::{Device, Kind, Tensor};

const SYNCS: [&str; 2] = ["naive", "bucketed"];

/// Buckets of 20 kB: for the model under test about a dozen, of which some hold one gradient
/// and some several. (With 10 kB each would hold one, and a gradient lost inside a bucket would
/// not be missed.)
const BUCKETS: &str = "--bucket-mb 0.02";

#[test]
fn every_world_and_way_of_summing_computes_what_step01_computes() {
    for tied in [false, true] {
        for (global_batch, micro_batch) in [(24, 1), (48, 2)] {
            let batch = format!("--global-batch {global_batch} --micro-batch {micro_batch}");
            let reference = reference(tied, &batch);
            for dp in [1, 2, 3, 4, 8] {
                for sync in SYNCS {
                    let run = format!("{batch} --dp {dp} --dp-sync {sync} {BUCKETS}");
                    let what = format!("{run}, tied {tied}");
                    let records = record(2, &flags(tied, &run)).unwrap();
                    assert_eq!(records.len(), dp);
                    // One replica reorders no sum.
                    let bound = if dp == 1 { Bound::Bits } else { Bound::REORDERED };
                    let worst = compare(&what, &reference, &whole(&what, &records), bound);
                    println!("{what}: largest relative error {worst:.1e}");
                }
            }
        }
    }
}

#[test]
fn the_next_token_is_scored_as_by_step01() {
    let tokens =
        || (Tensor::arange(16, (Kind::Int64, Device::Cpu)) * 37 + 5).fmod(256).unsqueeze(0);
    let flags = flags(true, "--global-batch 2 --micro-batch 1");
    let config = parse::<step01::config::Config>(&flags).unwrap();
    let one = step01::train::Trainer::new(&config, config.texts(), report::Trace::off()).unwrap();
    let expected = tch::no_grad(|| one.model.forward(&tokens())).unwrap().get(0); // [seq, vocab]
    for last in [0, 6, 15] {
        let config = parse::<step02::config::Config>(&flags).unwrap();
        let scores = launch::launch(&config.launch(), move |mesh| {
            let trainer = step02::train::Trainer::new(&config, config.texts(), mesh)?;
            tch::no_grad(|| trainer.model.next_token(&tokens(), last))
        });
        assert_eq!(scores.unwrap()[0], expected.get(last), "position {last}");
    }
}

#[test]
fn one_micro_batch_a_replica_is_enough() {
    let reference = reference(false, "--global-batch 24 --micro-batch 24");
    for dp in [2, 3, 8] {
        let run = format!("--global-batch 24 --micro-batch {} --dp {dp} {BUCKETS}", 24 / dp);
        let records = record(2, &flags(false, &run)).unwrap();
        compare(&run, &reference, &whole(&run, &records), Bound::REORDERED);
    }
}

#[test]
fn a_gradient_that_never_comes_is_missed() {
    let run = "--global-batch 2 --micro-batch 1 --dp 2 --dp-sync bucketed";
    let config = parse::<step02::config::Config>(&flags(false, run)).unwrap();
    let errors = launch::launch(&config.launch(), move |mesh| {
        let parameter = |name: &str| {
            let tensor = Tensor::ones([3], (Kind::Double, Device::Cpu)).set_requires_grad(true);
            Parameter { name: name.to_owned(), tensor, decays: false }
        };
        let parameters = [parameter("used"), parameter("forgotten")];
        let data_parallel = DataParallel::new(&parameters, &mesh.dp, &config.parallel)?;
        data_parallel.zero_grad()?;
        data_parallel.before_backward(true);
        parameters[0].tensor.sum(Kind::Double).backward();
        Ok(data_parallel.finish().unwrap_err().to_string())
    });
    assert_eq!(errors.unwrap(), ["1 of a bucket's 2 gradients were ready"; 2]);
}

#[test]
fn ranks_seeded_differently_still_start_equal() {
    for sync in SYNCS {
        let run = format!("--global-batch 24 --micro-batch 3 --dp 4 --dp-sync {sync} {BUCKETS}");
        let reseed = |train: &mut cli::TrainConfig, rank| train.seed += 100 * rank as u64;
        let records = record_with(2, &flags(false, &run), reseed).unwrap();
        let reference = reference(false, "--global-batch 24 --micro-batch 3");
        compare(&run, &reference, &whole(&run, &records), Bound::REORDERED);
    }
}

#[test]
fn both_ways_of_summing_agree_bit_for_bit_for_two_replicas() {
    // a + b is one rounding, whichever buffer it happens in.
    let run = |sync| {
        let run = format!("--global-batch 8 --micro-batch 1 --dp 2 --dp-sync {sync} {BUCKETS}");
        record(2, &flags(true, &run)).unwrap()[0].tensors()
    };
    compare("bucketed against naive", &run("naive"), &run("bucketed"), Bound::Bits);
}

#[test]
fn each_gradient_crosses_the_ring_once_a_step_however_many_micro_batches() {
    for dp in [2, 4] {
        for sync in SYNCS {
            for micro_batch in [1, 2] {
                let run = format!(
                    "--global-batch 16 --micro-batch {micro_batch} --dp {dp} --dp-sync {sync} {BUCKETS}"
                );
                let records = record(2, &flags(false, &run)).unwrap();
                let gradients: usize = records[0].grads[0].values().map(|g| g.numel() * 8).sum();
                // All ranks of a ring of n together send 2(n − 1) times what they sum: the
                // gradients, and the loss.
                let expected = 2 * (dp - 1) * (gradients + 8);
                for step in 0..records[0].stats.len() {
                    let sent: u64 = records.iter().map(|r| r.stats[step].comm_bytes["dp"]).sum();
                    assert_eq!(sent, expected as u64, "{run}, step {step}");
                }
            }
        }
    }
}

#[test]
fn gradients_and_weights_stay_f32_under_bf16() {
    let run = |dtype| {
        let run = format!("--global-batch 8 --micro-batch 2 --dp 2 --dtype {dtype} {BUCKETS}");
        record(2, &flags(false, &run)).unwrap().remove(0)
    };
    let (bf16, f32) = (run("bf16"), run("f32"));
    for tensors in bf16.grads.iter().chain(&bf16.weights) {
        assert!(tensors.values().all(|t| t.kind() == tch::Kind::Float));
    }
    for (a, b) in bf16.stats.iter().zip(&f32.stats) {
        // bf16 keeps 8 bits: rounding errs by up to 2⁻⁸, and the loss averages over many, by less
        // than half of that.
        approx::assert_relative_eq!(a.loss, b.loss, max_relative = 1.0 / 512.0);
        assert_ne!(a.loss, b.loss, "bf16 computed in f32");
    }
}

#[test]
fn a_bf16_gradient_sum_keeps_what_bf16_would_lose() {
    // 24 micro-batches on 2 replicas against one: summed in f32 the two stay within f32 rounding
    // of each other, 24 · 2⁻²⁴ ≈ 1.4e-6; summed in bf16 they would be apart by 2⁻⁸ and more.
    let run = |flags_of: &str, step| {
        let run = format!("--global-batch 24 --micro-batch 1 --dtype bf16 {flags_of}");
        record(step, &flags(false, &run)).unwrap().remove(0)
    };
    let (one, two) = (run("", 1), run("--dp 2", 2));
    compare("bf16 gradients", &one.grads[0], &two.grads[0], Bound::Relative(1e-5));
}

#[test]
fn all_three_launchers_compute_the_same_bits() {
    assert_launchers_agree(2, 3, &flags(true, "--global-batch 12 --micro-batch 2 --dp 3"));
}

#[test]
fn the_trace_shows_buckets_travelling_during_the_backward_pass() {
    // Spans as (track, start, end), in microseconds.
    let spans = |sync: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let run = format!(
            "--global-batch 16 --micro-batch 8 --dp 2 --seq-len 64 --steps 4 --sample 0 \
             --dp-sync {sync} {BUCKETS} --trace {}",
            path.display()
        );
        let config = parity::parse::<step02::config::Config>(&flags(false, &run)).unwrap();
        launch::launch(&config.launch(), move |mesh| {
            step02::train::run(&config, config.texts(), mesh)
        })
        .unwrap();
        common::spans(&path)
    };
    // Sums that start on a rank before a backward pass of that rank has ended.
    let overlapping = |spans: &[common::Span]| {
        let during = |sum: &common::Span| {
            let inside = |pass: &&common::Span| pass.start < sum.start && sum.start < pass.end;
            spans
                .iter()
                .filter(|s| s.rank == sum.rank && s.name == "backward")
                .find(inside)
                .is_some()
        };
        spans
            .iter()
            .filter(|s| s.track == "dp" && s.name.contains("all_reduce"))
            .filter(|s| during(s))
            .count()
    };
    let (naive, bucketed) = (spans("naive"), spans("bucketed"));
    assert_eq!(overlapping(&naive), 0);
    // Of some hundred sums on a machine with other work, at least a few start at once.
    assert!(overlapping(&bucketed) >= 4, "{}", overlapping(&bucketed));
}
