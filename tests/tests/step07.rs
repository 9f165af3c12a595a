//! step07: sequence parallelism and recomputation change what a rank keeps and sends, and nothing of
//! what it computes.

mod common;

use comm::Layout;
use common::{
    Model, assert_launchers_agree, flags, layout_flags, layouts, ring_bytes, without_norm,
};
use parity::{Bound, Record, Tensors, compare, parse, record, whole};
use tch::{Device, Kind, Tensor};

/// Layers for as many stages, and no more: the grid is large. An uneven vocabulary where the
/// embedding is tied.
fn model(tied: bool, pp: usize) -> Model {
    Model { tied, layers: pp.max(4), vocab: if tied { 259 } else { 256 } }
}

/// One way to run a layout, another for each `turn`: together they cover every pair of settings.
fn way(turn: usize) -> String {
    let pick = |values: &[&'static str], every: usize| values[turn / every % values.len()];
    format!(
        "--recompute {} --sp-gather {} --tp-sync {} --schedule {} --cp-layout {}",
        pick(&["none", "elementwise", "layer"], 1),
        pick(&["twice", "once"], 1),
        pick(&["overlapped", "blocking"], 3),
        pick(&["1f1b", "afab"], 2),
        pick(&["zigzag", "contiguous"], 5),
    )
}

#[test]
fn all_35_layouts_and_sixteen_ranks_compute_what_step01_computes() {
    let batch = |micro_batch| format!("--global-batch 8 --micro-batch {micro_batch}");
    let mut all: Vec<Layout> = [1, 2, 4, 8].into_iter().flat_map(layouts).collect();
    assert_eq!(all.len(), 35);
    all.push(Layout { dp: 2, pp: 2, cp: 2, tp: 2 });
    for tied in [false, true] {
        let references = [4, 8].map(|layers| model(tied, layers).reference(&batch(1)));
        for (turn, &layout) in all.iter().enumerate() {
            // Two sequences at once where there are enough: then tokens lie in two pieces of memory.
            let micro_batch = if layout.dp == 8 { 1 } else { 2 };
            let way = way(turn + usize::from(tied));
            let run = format!("{} {} {way}", batch(micro_batch), layout_flags(layout));
            let what = format!("{run}, tied {tied}");
            let records = record(7, &model(tied, layout.pp).flags(&run)).unwrap();
            assert_eq!(records.len(), layout.world());
            let reference = &references[usize::from(layout.pp == 8)];
            let worst = compare(&what, reference, &whole(&what, &records), Bound::REORDERED);
            println!("{what}: largest relative error {worst:.1e}");
        }
    }
}

#[test]
fn sums_over_more_tp_ranks_than_two_in_every_way_are_those_of_step01() {
    let batch = "--global-batch 4 --micro-batch 2";
    let model = Model { tied: true, layers: 2, vocab: 259 };
    let reference = model.reference(batch);
    for turn in 0..12 {
        let (tp, cp) = if turn % 2 == 0 { (4, 2) } else { (8, 1) };
        let run = format!("{batch} --dp 1 --pp 1 --cp {cp} --tp {tp} {}", way(turn));
        let records = record(7, &model.flags(&run)).unwrap();
        compare(&run, &reference, &whole(&run, &records), Bound::REORDERED);
    }
}

/// Every number that the ranks of a run computed, rank by rank.
fn all_numbers(run: &str) -> Vec<Tensors> {
    record(7, &flags(true, run)).unwrap().iter().map(Record::tensors).collect()
}

#[test]
fn what_is_recomputed_has_the_same_bits() {
    for (layout, dtype) in [
        ("--dp 1 --pp 1 --cp 1 --tp 1", "f64"),
        ("--dp 2 --pp 2 --cp 1 --tp 2 --schedule 1f1b", "f32"),
        ("--dp 1 --pp 2 --cp 1 --tp 2 --schedule afab", "bf16"),
        ("--dp 1 --pp 1 --cp 2 --tp 2 --cp-layout contiguous", "f64"),
        ("--dp 1 --pp 2 --cp 2 --tp 2 --sp-gather once", "bf16"),
        ("--dp 1 --pp 2 --cp 2 --tp 2 --sequence-parallel=false", "f32"),
        ("--dp 2 --pp 2 --cp 2 --tp 2", "f64"),
    ] {
        let batch = format!("--global-batch 8 --micro-batch 2 --dtype {dtype} {layout}");
        let kept = all_numbers(&format!("{batch} --recompute none"));
        for recompute in ["elementwise", "layer"] {
            let run = format!("{batch} --recompute {recompute}");
            for (rank, (kept, again)) in kept.iter().zip(all_numbers(&run)).enumerate() {
                compare(&format!("{run}, rank {rank}"), kept, &again, Bound::Bits);
            }
        }
    }
}

#[test]
fn what_is_gathered_twice_has_the_same_bits() {
    for layout in ["--dp 1 --pp 2 --cp 1 --tp 2", "--dp 1 --pp 1 --cp 2 --tp 4 --dtype bf16"] {
        for sync in ["overlapped", "blocking"] {
            let batch = format!("--global-batch 4 --micro-batch 2 {layout} --tp-sync {sync}");
            let once = all_numbers(&format!("{batch} --sp-gather once"));
            for (once, twice) in once.iter().zip(all_numbers(&format!("{batch} --sp-gather twice")))
            {
                compare(&batch, once, &twice, Bound::Bits);
            }
        }
    }
}

#[test]
fn without_this_steps_settings_it_is_step06_bit_for_bit() {
    let run = "--global-batch 8 --micro-batch 2 --dp 2 --pp 2 --cp 2 --tp 2";
    let before = record(6, &flags(true, run)).unwrap();
    let now = all_numbers(&format!("{run} --sequence-parallel=false --recompute none"));
    for (before, now) in before.iter().zip(now) {
        compare(run, &before.tensors(), &now, Bound::Bits);
    }
}

#[test]
fn one_rank_computes_the_same_bits_as_step01() {
    let batch = "--global-batch 4 --micro-batch 2 --clip 0";
    let reference = without_norm(model(false, 4).reference(batch));
    for (pp, recompute) in [(1, "layer"), (2, "elementwise"), (4, "layer")] {
        let run = format!("{batch} --dp 1 --tp 1 --cp 1 --pp {pp} --recompute {recompute}");
        let records = record(7, &model(false, 4).flags(&run)).unwrap();
        compare(&run, &reference, &without_norm(whole(&run, &records)), Bound::Bits);
    }
}

#[test]
fn all_three_launchers_compute_the_same_bits() {
    let run = "--global-batch 4 --micro-batch 2 --dp 1 --pp 2 --cp 1 --tp 2 --recompute layer";
    assert_launchers_agree(7, 4, &flags(true, run));
}

/// Every rank adds the others' parts of the gradients of norms to its own, and takes the same
/// steps: `whole` compares the ranks' norms, bit for bit.
#[test]
fn norms_are_the_same_on_all_tp_ranks_after_fifty_steps() {
    let run = "--global-batch 4 --micro-batch 2 --dp 1 --pp 1 --cp 1 --tp 4 --steps 50 --dtype f32";
    let records = record(7, &flags(false, run)).unwrap();
    let norms = |record: &Record| {
        let norms = record.weights[49].iter().filter(|(name, _)| name.contains("norm"));
        norms.map(|(_, norm)| norm.copy()).collect::<Vec<_>>()
    };
    let first = norms(&records[0]);
    assert_eq!(first.len(), 2 * 2 + 1);
    assert!(first.iter().all(|norm| !norm.equal(&norm.ones_like())), "they have been learnt");
    for record in &records[1..] {
        assert!(norms(record).iter().zip(&first).all(|(a, b)| a.equal(b)));
    }
    whole(run, &records);
}

/// Bytes that a rank of two tp ranks sends over tp in a step, with one stage and one micro-batch.
fn tp_bytes(run: &str) -> Vec<u64> {
    let flags = Model::default()
        .flags(&format!("--global-batch 2 --micro-batch 2 --steps 1 --dp 1 --pp 1 --cp 1 {run}"));
    let records = record(7, &flags).unwrap();
    let tp = |record: &Record| record.stats[0].comm_bytes.iter().find(|(name, _)| *name == "tp");
    records.iter().map(|record| tp(record).unwrap().1).collect()
}

/// By hand: T tokens of h numbers of 8 bytes, n ranks. A reduce-scatter and an all-gather each send
/// (n-1)/n of them.
#[test]
fn the_bytes_of_each_way_are_those_of_its_formula() {
    for n in [2, 4] {
        let (tokens, hidden, layers) = (2 * 16, 32, 2);
        let part = (n - 1) * tokens * hidden * 8 / n;
        let sum = |len: usize| ring_bytes(len, 8, 0, n); // evenly divided: the same on all ranks
        // The embedding's sum and its gather backward; f in front of the head and its sum backward.
        let ends = 4 * part as u64;
        // In the loss the maxima, and the sums with their targets; then the norm of the gradient.
        let loss = sum(tokens) + sum(2 * tokens);
        let norms = sum((2 * layers + 1) * hidden);
        for (recompute, again) in [("none", 0), ("elementwise", 0), ("layer", 4)] {
            for (gather, times) in [("once", 8), ("twice", 10)] {
                let run = format!("--tp {n} --sp-gather {gather} --recompute {recompute}");
                let layer = ((times + again) * part) as u64;
                let expected = ends + layers as u64 * layer + loss + norms;
                for (rank, sent) in tp_bytes(&run).into_iter().enumerate() {
                    let norm = ring_bytes(1, 8, rank, n); // one number does not divide evenly
                    assert_eq!(sent, expected + norm, "{run}, rank {rank}");
                }
            }
        }
        // The all-reduces that they replace send as much as gathering once. Norms need no sum.
        let run = format!("--tp {n} --sequence-parallel=false");
        let expected = 2 * part as u64 * 2 + layers as u64 * 8 * part as u64 + loss;
        for (rank, sent) in tp_bytes(&run).into_iter().enumerate() {
            assert_eq!(sent, expected + ring_bytes(1, 8, rank, n), "{run}");
        }
    }
}

/// Bytes that each rank keeps of the forward pass of four layers.
fn kept(run: &str) -> Vec<u64> {
    let run = format!("--global-batch 2 --micro-batch 2 --dp 1 --pp 1 --cp 1 {run}");
    let config = parse::<step07::config::Config>(&model(false, 1).flags(&run)).unwrap();
    launch::launch(&config.launch(), move |mesh| {
        let trainer = step07::train::Trainer::new(&config, config.texts(), mesh)?;
        let micro_batches = config.batches(0, 1)?.step(0)?;
        let warm = trainer.model.forward(&micro_batches[0].inputs, None)?; // makes the stacks of weights
        drop(warm);
        mesh.world.barrier()?;
        let recording = autograd::record_memory()?;
        let out = trainer.model.forward(&micro_batches[0].inputs, None)?;
        mesh.world.barrier()?; // what travels has arrived everywhere, and is let go
        let changes = recording.finish();
        drop(out);
        Ok(changes.iter().map(|change| change.bytes).sum::<i64>() as u64)
    })
    .unwrap()
}

/// By hand, and to the byte: no number and no message tells of what is kept in vain.
#[test]
fn what_is_computed_again_is_not_kept() {
    let (tokens, hidden, layers) = (2 * 16, 32, 4);
    for (flags, n, is_kept) in [
        ("--tp 1", 1, false),
        ("--tp 2 --sp-gather twice", 2, false),
        ("--tp 4 --sp-gather twice", 4, false),
        ("--tp 2 --sp-gather once", 2, true),
        ("--tp 2 --sequence-parallel=false", 1, false),
    ] {
        let tp: u64 = flags[5..6].parse().unwrap();
        let (own, intermediate) = (tokens / n * hidden * 8, tokens * 48 / tp * 8);
        let none = kept(&format!("{flags} --recompute none"));
        let elementwise = kept(&format!("{flags} --recompute elementwise"));
        let layer = kept(&format!("{flags} --recompute layer"));
        // What two norms give, where it is not gathered and kept; silu(gate) and its product with up.
        let less = layers * (if is_kept { 0 } else { 2 * own } + 2 * intermediate);
        println!("{flags}: {none:?} {elementwise:?} {layer:?} {less} {own}");
        for rank in 0..none.len() {
            assert_eq!(none[rank] - elementwise[rank], less, "{flags}, rank {rank}");
            // The rows of the embedding and which are another rank's; each layer's input; the end.
            assert_eq!(layer[rank], tokens * 9 + (layers + 1) * own, "{flags}, rank {rank}");
        }
    }
}

/// What one stage sends to the next is tp times smaller.
#[test]
fn a_stage_sends_its_own_tokens_alone() {
    let pp_bytes = |run: &str| -> u64 {
        let run = format!("--global-batch 2 --micro-batch 2 --steps 1 --dp 1 --cp 1 --pp 2 {run}");
        let records = record(7, &flags(false, &run)).unwrap();
        let sent = records[0].stats[0].comm_bytes.iter().find(|(name, _)| *name == "pp");
        // Without the loss and the norm, on which the stages agree.
        sent.unwrap().1 - 2 * ring_bytes(1, 8, 0, 2)
    };
    let whole = pp_bytes("--tp 4 --sequence-parallel=false");
    assert_eq!(whole, 2 * 16 * 32 * 8);
    assert_eq!(pp_bytes("--tp 4"), whole / 4);
}

#[test]
fn checkpoints_are_those_of_step06() {
    macro_rules! train {
        ($step:ident, $flags:expr) => {{
            let config = parse::<$step::config::Config>(&flags(true, &$flags)).unwrap();
            let launch = config.launch();
            launch::launch(&launch, move |mesh| $step::train::run(&config, config.texts(), mesh))
                .unwrap();
        }};
    }
    macro_rules! resumed {
        ($step:ident, $flags:expr) => {{
            let config = parse::<$step::config::Config>(&flags(true, &$flags)).unwrap();
            let records = launch::launch(&config.launch(), move |mesh| {
                let mut trainer = $step::train::Trainer::new(&config, config.texts(), mesh)?;
                Record::take(mesh.rank, mesh.coords, 2, &mut trainer)
            });
            whole(&$flags, &records.unwrap())
        }};
    }
    let steps = "--global-batch 4 --micro-batch 2 --steps 4";
    let reference: Tensors = {
        let mut all = common::reference(true, steps);
        all.retain(|label, _| label.starts_with("step 3") || label.starts_with("step 4"));
        all
    };
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["old", "new"].map(|name| dir.path().join(name).display().to_string());
    let [a, b] = ["--dp 2 --pp 1 --cp 1 --tp 2", "--dp 1 --pp 2 --cp 1 --tp 4"];
    train!(step06, format!("{steps} {a} --save {old} --save-every 2"));
    train!(step07, format!("{steps} {a} --recompute layer --save {new} --save-every 2"));
    let from = |dir: &str| format!("--resume {dir}/step-000002");
    let run = resumed!(step07, format!("{steps} {b} --recompute elementwise {}", from(&old)));
    compare("step07 from step06", &reference, &run, Bound::REORDERED);
    let run = resumed!(step06, format!("{steps} {b} {}", from(&new)));
    compare("step06 from step07", &reference, &run, Bound::REORDERED);
}

#[test]
fn the_next_token_and_the_validation_loss_are_those_of_step01() {
    let tokens =
        || (Tensor::arange(16, (Kind::Int64, Device::Cpu)) * 37 + 5).fmod(256).unsqueeze(0);
    let config = parse::<step01::config::Config>(&flags(true, "")).unwrap();
    let one = step01::train::Trainer::new(&config, config.texts(), report::Trace::off()).unwrap();
    let expected = tch::no_grad(|| one.model.forward(&tokens())).unwrap().get(0); // [seq, vocab]
    let evaluated = |flags: &[String]| {
        let config = parse::<step07::config::Config>(flags).unwrap();
        launch::launch(&config.launch(), move |mesh| {
            let trainer = step07::train::Trainer::new(&config, config.texts(), mesh)?;
            let before = mesh.tp.bytes_sent();
            let loss = trainer.evaluate()?.loss;
            let sent = mesh.tp.bytes_sent() - before;
            let scores =
                [0, 6, 15].map(|last| tch::no_grad(|| trainer.next_token(&tokens(), last)));
            Ok((loss, sent, scores))
        })
        .unwrap()
    };
    let batch = "--global-batch 2 --micro-batch 2 --eval-every 1 --eval-batches 2";
    let plain = flags(true, &format!("{batch} --dp 1 --pp 1 --cp 1 --tp 1"));
    let (loss, ..) = &evaluated(&plain)[0];
    for recompute in ["none", "elementwise", "layer"] {
        let run = format!("{batch} --dp 1 --pp 2 --cp 2 --tp 2 --recompute {recompute}");
        let mut sent = vec![];
        for (theirs, bytes, scores) in evaluated(&flags(true, &run)) {
            approx::assert_relative_eq!(theirs, *loss, max_relative = 1e-12);
            for (last, scores) in [0, 6, 15].into_iter().zip(scores) {
                let error = (scores.unwrap() - expected.get(last)).abs().max().double_value(&[]);
                assert!(error < 1e-12, "{run}, position {last}: {error}");
            }
            sent.push(bytes);
        }
        // One forward pass of two layers: two gathers and two sums each; behind the embedding a
        // sum, or in front of the head a gather. Nothing is computed again.
        let part = 2 * 8 * 32 * 8 / 2;
        let loss = ring_bytes(16, 8, 0, 2) + ring_bytes(32, 8, 0, 2);
        let (batches, first) = (2, 4 + 1);
        assert_eq!(sent[0], batches * first * part, "{run}");
        assert_eq!(sent[7], batches * (first * part + loss), "{run}");
    }
}
