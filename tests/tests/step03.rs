//! step03: ranks that share every matrix compute what one device computes.

mod common;

use common::{Model, assert_launchers_agree, flags, reference, ring_bytes, without_norm};
use parity::{Bound, Record, compare, parse, record, whole};
use tch::{Device, Kind, Tensor};

const SYNCS: [&str; 2] = ["blocking", "overlapped"];

/// Every (dp, tp) whose product is `world`.
fn layouts(world: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..=world).filter(move |tp| world.is_multiple_of(*tp)).map(move |tp| (world / tp, tp))
}

#[test]
fn every_layout_computes_what_step01_computes() {
    // 259 words: no world but 1 divides them.
    for model in [Model::tied(false), Model::tied(true), Model { vocab: 259, ..Model::tied(true) }]
    {
        for (global_batch, micro_batch) in [(8, 1), (16, 2)] {
            let batch = format!("--global-batch {global_batch} --micro-batch {micro_batch}");
            let reference = model.reference(&batch);
            for (dp, tp) in [1, 2, 4, 8].into_iter().flat_map(layouts) {
                for sync in SYNCS {
                    let run = format!("{batch} --dp {dp} --tp {tp} --tp-sync {sync}");
                    let what = format!("{run}, {model:?}");
                    let records = record(3, &model.flags(&run)).unwrap();
                    assert_eq!(records.len(), dp * tp);
                    let run = whole(&what, &records);
                    let worst = compare(&what, &reference, &run, Bound::REORDERED);
                    println!("{what}: largest relative error {worst:.1e}");
                }
            }
        }
    }
}

#[test]
fn one_rank_computes_the_same_bits_as_step01() {
    for tied in [false, true] {
        for sync in SYNCS {
            let batch = "--global-batch 8 --micro-batch 2 --clip 0";
            let records =
                record(3, &flags(tied, &format!("{batch} --tp 1 --tp-sync {sync}"))).unwrap();
            let (one, run) = (reference(tied, batch), whole(batch, &records));
            compare(sync, &without_norm(one), &without_norm(run), Bound::Bits);
        }
    }
}

#[test]
fn losses_taken_in_several_slices_are_the_same() {
    // 40 sequences of 16 tokens: a slice of 512 and one of 128.
    let batch = "--global-batch 40 --micro-batch 40";
    let records = record(3, &flags(true, &format!("{batch} --tp 2"))).unwrap();
    compare(batch, &reference(true, batch), &whole(batch, &records), Bound::REORDERED);
}

#[test]
fn what_all_ranks_hold_stays_the_same_bits_for_fifty_steps() {
    // `whole` demands it of norms, losses and gradient norms, between tp ranks and replicas.
    for sync in SYNCS {
        let run = format!(
            "--global-batch 4 --micro-batch 2 --dp 2 --tp 4 --steps 50 --dtype f32 --tp-sync {sync}"
        );
        let records = record(3, &flags(true, &run)).unwrap();
        let last = whole(&run, &records);
        assert!(last.contains_key("step 50: weight of model.norm.weight"));
        let (first, last) = (&last["step 1: loss"], &last["step 50: loss"]);
        assert!(last.double_value(&[]) < 0.8 * first.double_value(&[]), "{first} {last}");
    }
}

#[test]
fn two_sums_a_layer_forward_and_two_backward_and_no_more() {
    let (hidden, layers, seq) = (32, 2, 16);
    for tp in [1, 2, 4, 8] {
        for (micro_batch, micro_batches) in [(1, 3), (2, 2)] {
            let global_batch = micro_batch * micro_batches;
            let run =
                format!("--global-batch {global_batch} --micro-batch {micro_batch} --tp {tp}");
            let records = record(3, &flags(false, &run)).unwrap();
            for Record { rank, stats, .. } in &records {
                let sum = |len: usize| ring_bytes(len, 8, *rank, tp);
                let tokens = micro_batch * seq;
                let per_layer = 4 * sum(tokens * hidden);
                let embedding = sum(tokens * hidden); // forward alone
                // The highest score, the two sums of the softmax, and the gradient to
                // the head's input.
                let head = sum(tokens) + sum(2 * tokens) + sum(tokens * hidden);
                let gradient_norm = sum(1);
                let micro_batch = layers as u64 * per_layer + embedding + head;
                let expected = micro_batches as u64 * micro_batch + gradient_norm;
                for stats in stats {
                    assert_eq!(stats.comm_bytes["tp"], expected, "{run}, rank {rank}");
                }
            }
        }
    }
}

#[test]
fn no_rank_holds_the_logits_or_the_weights_of_another() {
    // With the bytes above, which leave no room for logits to travel, this is all that a rank can
    // know: its rows of the head, and so its columns of the logits.
    let tp = 4;
    for record in
        record(3, &flags(false, &format!("--global-batch 2 --micro-batch 2 --tp {tp}"))).unwrap()
    {
        let shape = |name: &str| record.weights[0][name].size();
        assert_eq!(shape("lm_head.weight"), [256 / tp, 32]);
        assert_eq!(shape("model.embed_tokens.weight"), [256 / tp, 32]);
        assert_eq!(shape("model.layers.1.self_attn.q_proj.weight"), [16 * 4 / tp, 32]);
        assert_eq!(shape("model.layers.1.self_attn.k_proj.weight"), [8 * 4 / tp, 32]);
        assert_eq!(shape("model.layers.1.self_attn.o_proj.weight"), [32, 16 * 4 / tp]);
        assert_eq!(shape("model.layers.1.mlp.down_proj.weight"), [32, 48 / tp]);
        assert_eq!(shape("model.norm.weight"), [32]);
    }
}

#[test]
fn bf16_stays_close_to_f32() {
    let run = |dtype| {
        let run = format!("--global-batch 8 --micro-batch 2 --tp 4 --dtype {dtype}");
        record(3, &flags(false, &run)).unwrap().remove(0)
    };
    let (bf16, f32) = (run("bf16"), run("f32"));
    for tensors in bf16.grads.iter().chain(&bf16.weights) {
        assert!(tensors.values().all(|t| t.kind() == Kind::Float));
    }
    for (a, b) in bf16.stats.iter().zip(&f32.stats) {
        // bf16 keeps 8 bits: rounding errs by up to 2⁻⁸; the loss, which averages over
        // many, by no more.
        approx::assert_relative_eq!(a.loss, b.loss, max_relative = 1.0 / 256.0);
        assert_ne!(a.loss, b.loss, "bf16 computed in f32");
    }
}

#[test]
fn all_three_launchers_compute_the_same_bits() {
    let run = "--global-batch 8 --micro-batch 2 --dp 2 --tp 2";
    assert_launchers_agree(3, 4, &flags(true, run));
}

#[test]
fn the_next_token_is_scored_alike_on_all_ranks_and_as_by_step01() {
    for vocab in [256, 259] {
        let model = Model { vocab, ..Model::default() };
        let tokens =
            || (Tensor::arange(16, (Kind::Int64, Device::Cpu)) * 37 + 5).fmod(256).unsqueeze(0);
        let config = parse::<step01::config::Config>(&model.flags("")).unwrap();
        let one =
            step01::train::Trainer::new(&config, config.texts(), report::Trace::off()).unwrap();
        let expected = tch::no_grad(|| one.model.forward(&tokens())).unwrap().get(0).get(9); // [vocab]
        let config = parse::<step03::config::Config>(&model.flags("--tp 4")).unwrap();
        let scores = launch::launch(&config.launch(), move |mesh| {
            let trainer = step03::train::Trainer::new(&config, config.texts(), mesh)?;
            tch::no_grad(|| trainer.model.next_token(&tokens(), 9))
        });
        for scores in scores.unwrap() {
            assert_eq!(scores.size(), [vocab as i64]);
            assert!((scores - &expected).abs().max().double_value(&[]) < 1e-12);
        }
    }
}

#[test]
fn the_trace_shows_gradients_summed_while_others_are_computed() {
    // Sums of a backward pass that travel while their rank does something else.
    let overlapped = |sync: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        let run = format!(
            "--global-batch 8 --micro-batch 8 --tp 2 --seq-len 128 --steps 4 --tp-sync {sync} --trace {}",
            path.display()
        );
        let config = parse::<step03::config::Config>(&flags(false, &run)).unwrap();
        launch::launch(&config.launch(), move |mesh| {
            step03::train::run(&config, config.texts(), mesh)
        })
        .unwrap();
        let spans = common::spans(&path);
        let of = |rank, name: &'static str| {
            spans.iter().filter(move |s| s.rank == rank && s.name.contains(name))
        };
        let waits_at = |rank, time| {
            let waits = |s: &common::Span| s.track == "wait" && s.start <= time && time < s.end;
            of(rank, "all_reduce").any(waits)
        };
        let overlapped = |sum: &&common::Span| {
            let within = of(sum.rank, "backward").any(|s| s.start < sum.start && sum.end < s.end);
            sum.track == "tp" && within && !waits_at(sum.rank, sum.start)
        };
        [0, 1].map(|rank| of(rank, "all_reduce").filter(overlapped).count())
    };
    assert_eq!(overlapped("blocking"), [0, 0]);
    // Of the 16 sums of each rank (four steps of two layers), on a machine with other work.
    let overlapped = overlapped("overlapped");
    assert!(overlapped.iter().all(|&n| n >= 4), "{overlapped:?}");
}
