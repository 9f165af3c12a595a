//! step05: ranks that share sequences compute what one device computes.

mod common;

use common::{Model, assert_launchers_agree, layout_flags, layouts, without_norm};
use parity::{Bound, Record, compare, parse, record, whole};
use step05::config::CpLayout::{self, Contiguous, Zigzag};
use step05::context_parallel::tile;
use tch::{Device, Kind, Tensor};

const LAYOUTS: [CpLayout; 2] = [Contiguous, Zigzag];

/// Layers for eight stages.
fn model(tied: bool) -> Model {
    Model { tied, layers: 8, ..Model::default() }
}

/// The layouts of the sequence that differ on `cp` ranks.
fn sequence_layouts(cp: usize) -> impl Iterator<Item = CpLayout> {
    LAYOUTS.into_iter().take(if cp == 1 { 1 } else { 2 })
}

#[test]
fn every_layout_with_shared_sequences_computes_what_step01_computes() {
    // Eight ranks of a sequence of 16 in zigzag: a token a piece.
    let batch = "--global-batch 8 --micro-batch 1";
    let references = [false, true].map(|tied| model(tied).reference(batch));
    // Those with whole sequences are step04's, and step06's tests run all 35.
    let all = [2, 4, 8].into_iter().flat_map(layouts).filter(|layout| layout.cp > 1);
    for (i, layout) in all.enumerate() {
        for how in sequence_layouts(layout.cp) {
            let (tied, schedule) = (i % 2 == 0, ["1f1b", "afab"][i / 2 % 2]);
            let flags = layout_flags(layout);
            let run =
                format!("{batch} {flags} --cp-layout {} --schedule {schedule}", cli::word(&how));
            let what = format!("{run}, tied {tied}");
            let records = record(5, &model(tied).flags(&run)).unwrap();
            let run = whole(&what, &records);
            let worst = compare(&what, &references[usize::from(tied)], &run, Bound::REORDERED);
            println!("{what}: largest relative error {worst:.1e}");
        }
    }
}

#[test]
fn pieces_of_any_length_and_several_sequences_at_once_do_too() {
    // The last two fit no zigzag: 2·cp does not divide them.
    for (seq, cp) in [(48, 4), (24, 3), (70, 7), (64, 8), (35, 7), (20, 4)] {
        let batch = format!("--global-batch 4 --micro-batch 2 --seq-len {seq}");
        let reference = Model::default().reference(&batch);
        for how in LAYOUTS.into_iter().filter(|how| *how == Contiguous || seq % (2 * cp) == 0) {
            let run = format!("{batch} --cp {cp} --cp-layout {}", cli::word(&how));
            let records = record(5, &Model::default().flags(&run)).unwrap();
            compare(&run, &reference, &whole(&run, &records), Bound::REORDERED);
        }
    }
}

#[test]
fn whole_sequences_are_attended_to_with_the_same_bits_as_in_step01() {
    let batch = "--global-batch 4 --micro-batch 2 --clip 0";
    let reference = without_norm(model(false).reference(batch));
    for layout in ["--cp 1", "--cp 1 --pp 4"] {
        let records = record(5, &model(false).flags(&format!("{batch} {layout}"))).unwrap();
        compare(layout, &reference, &without_norm(whole(layout, &records)), Bound::Bits);
    }
}

/// The positions of rank `rank` of `ranks`, each of which has `rows`.
fn positions(how: CpLayout, rank: i64, ranks: i64, rows: i64) -> Vec<i64> {
    let half = rows / 2;
    let piece = |n: i64, length: i64| n * length..(n + 1) * length;
    match how {
        Contiguous => piece(rank, rows).collect(),
        Zigzag => piece(rank, half).chain(piece(2 * ranks - 1 - rank, half)).collect(),
    }
}

#[test]
fn every_query_meets_every_key_before_it_once_and_no_other() {
    let rows = 4;
    for how in LAYOUTS {
        for ranks in 2..=8 {
            let mut met = std::collections::BTreeMap::new();
            let mut work = vec![0; ranks as usize];
            for rank in 0..ranks {
                let own = positions(how, rank, ranks, rows);
                for from in 0..ranks {
                    let theirs = positions(how, from, ranks, rows);
                    let Some(tile) = tile(how, rank as usize, from as usize, rows) else {
                        continue;
                    };
                    for (q, k) in
                        tile.queries.clone().flat_map(|q| tile.keys.clone().map(move |k| (q, k)))
                    {
                        if !tile.causal || k <= q {
                            *met.entry((own[q as usize], theirs[k as usize])).or_insert(0) += 1;
                        }
                    }
                    let area =
                        (tile.queries.end - tile.queries.start) * (tile.keys.end - tile.keys.start);
                    work[rank as usize] += if tile.causal { area / 2 } else { area };
                }
            }
            let seq = ranks * rows;
            let expected = (0..seq).flat_map(|q| (0..=q).map(move |k| ((q, k), 1))).collect();
            assert_eq!(met, expected, "{how:?} over {ranks}");
            // What each rank computes, in blocks of `rows` by `rows`.
            let blocks: Vec<f64> = work.iter().map(|&w| w as f64 / (rows * rows) as f64).collect();
            let expected = |rank: usize| match how {
                Contiguous => rank as f64 + 0.5,
                Zigzag => ranks as f64 / 2.0,
            };
            assert_eq!(blocks, (0..ranks as usize).map(expected).collect::<Vec<_>>());
        }
    }
}

#[test]
fn what_travels_around_the_ring_is_the_formula() {
    let (seq, micro_batch, micro_batches, kv_heads, head_dim, layers) = (16, 2, 3, 8, 4, 2);
    for (cp, tp) in [(1, 2), (2, 1), (4, 2), (8, 1)] {
        for how in sequence_layouts(cp) {
            let global_batch = micro_batch * micro_batches;
            let batch = format!("--global-batch {global_batch} --micro-batch {micro_batch}");
            let run = format!("{batch} --cp {cp} --tp {tp} --cp-layout {}", cli::word(&how));
            let records = record(5, &Model::default().flags(&run)).unwrap();
            // Keys and values of this rank's positions, with as many heads as there are: not one
            // for each query head.
            let kv = 2 * micro_batch * seq / cp * kv_heads / tp * head_dim * 8;
            // Forward they visit all other ranks; backward all but the first, which has kept them;
            // and their gradients come home from all.
            let blocks = [0, 2, 8, 20][cp.ilog2() as usize];
            let expected = blocks * kv * layers * micro_batches;
            for Record { stats, coords, .. } in &records {
                for stats in stats {
                    assert_eq!(stats.comm_bytes["cp"], expected as u64, "{run}, {coords}");
                }
            }
        }
    }
}

#[test]
fn gradients_are_summed_over_cp_where_dp_is_1_too() {
    let run = "--global-batch 2 --micro-batch 2 --cp 2";
    for Record { stats, grads, .. } in &record(5, &Model::default().flags(run)).unwrap() {
        let gradients: usize = grads[0].values().map(|g| g.numel() * 8).sum();
        // Of two ranks each sends a half twice; and the loss, from one of them.
        let sent = stats[0].comm_bytes["dp"];
        assert!((gradients as u64..=gradients as u64 + 16).contains(&sent), "{sent} {gradients}");
    }
}

#[test]
fn bf16_stays_close_to_f32() {
    let run = |dtype| {
        let run = format!("--global-batch 8 --micro-batch 2 --cp 4 --dtype {dtype}");
        record(5, &Model::default().flags(&run)).unwrap().remove(0)
    };
    let (bf16, f32) = (run("bf16"), run("f32"));
    for (a, b) in bf16.stats.iter().zip(&f32.stats) {
        // bf16 keeps 8 bits: rounding errs by up to 2⁻⁸; the loss, which averages over
        // many, by no more.
        approx::assert_relative_eq!(a.loss, b.loss, max_relative = 1.0 / 256.0);
        assert_ne!(a.loss, b.loss, "bf16 computed in f32");
    }
}

#[test]
fn the_next_token_is_scored_alike_on_all_ranks_and_as_by_step01() {
    let tokens =
        || (Tensor::arange(16, (Kind::Int64, Device::Cpu)) * 37 + 5).fmod(256).unsqueeze(0);
    let config = parse::<step01::config::Config>(&model(true).flags("")).unwrap();
    let one = step01::train::Trainer::new(&config, config.texts(), report::Trace::off()).unwrap();
    let expected = tch::no_grad(|| one.model.forward(&tokens())).unwrap().get(0); // [seq, vocab]
    for how in LAYOUTS {
        for last in [0, 6, 15] {
            let flags = format!("--pp 2 --tp 2 --cp 2 --cp-layout {}", cli::word(&how));
            let config = parse::<step05::config::Config>(&model(true).flags(&flags)).unwrap();
            let scores = launch::launch(&config.launch(), move |mesh| {
                let trainer = step05::train::Trainer::new(&config, config.texts(), mesh)?;
                tch::no_grad(|| trainer.next_token(&tokens(), last))
            });
            for scores in scores.unwrap() {
                let error = (scores - expected.get(last)).abs().max().double_value(&[]);
                assert!(error < 1e-12, "{flags}, position {last}: {error}");
            }
        }
    }
}

#[test]
fn all_three_launchers_compute_the_same_bits() {
    let run = "--global-batch 4 --micro-batch 2 --dp 2 --cp 2";
    assert_launchers_agree(5, 4, &Model::tied(true).flags(run));
}
