//! step07 --dry-run: the bytes and the memory that it foretells are those of the run.

mod common;

use cli::Gpu;
use common::Model;
use parity::{Ready, Record, parse, record};
use plan::Plan;
use step07::config::Config;
use step07::dry_run;

fn planned(config: &Config) -> Plan {
    Plan::new(dry_run::run(config), dry_run::trainer(config))
}

/// Each layout with settings that change what is sent.
fn worlds() -> Vec<Vec<String>> {
    let tied = Model { tied: true, layers: 5, vocab: 259 };
    let plain = Model { layers: 5, ..Model::default() };
    [
        (plain, "--global-batch 4 --micro-batch 2 --recompute layer"),
        (tied, "--global-batch 8 --micro-batch 2 --dp 2 --pp 2 --cp 2 --tp 2"),
        (plain, "--global-batch 8 --micro-batch 2 --pp 2 --cp 2 --tp 4 --recompute layer --dtype bf16"),
        (tied, "--global-batch 4 --micro-batch 2 --tp 8 --sp-gather once"),
        (tied, "--global-batch 4 --micro-batch 2 --tp 8 --sp-gather once --recompute layer"),
        (plain, "--global-batch 4 --micro-batch 2 --tp 4 --recompute elementwise --dtype f32"),
        (tied, "--global-batch 4 --micro-batch 1 --cp 3 --tp 2 --seq-len 24 --recompute layer"),
        (tied, "--global-batch 80 --micro-batch 40 --tp 4 --pp 2 --schedule afab"),
        (plain, "--global-batch 4 --micro-batch 2 --cp 2 --tp 2 --recompute layer --sequence-parallel=false"),
        (plain, "--global-batch 5 --micro-batch 1 --pp 5 --tp 2 --sequence-parallel=false"),
    ]
    .map(|(model, run)| model.flags(&format!("{run} --steps 2")))
    .into()
}

#[test]
fn the_bytes_foretold_are_the_bytes_sent() {
    for flags in worlds() {
        let config = parse::<Config>(&flags).unwrap();
        let plan = planned(&config);
        for Record { coords, stats, .. } in record(7, &flags).unwrap() {
            for stats in stats {
                assert_eq!(stats.comm_bytes, plan.comm_bytes(coords), "{flags:?}, {coords}");
            }
        }
    }
}

/// A model whose activations dwarf everything else: 1024 tokens at once.
fn wide(flags: &str) -> Ready<Config> {
    let path = format!("{}/wide7.toml", env!("CARGO_TARGET_TMPDIR"));
    let text = "[model]\nvocab_size = 256\nhidden_size = 128\nintermediate_size = 256\n\
                num_hidden_layers = 4\nnum_attention_heads = 8\nnum_key_value_heads = 4\n\
                [data]\nseq-len = 128\n[train]\nsteps = 2\nmicro-batch = 8\nglobal-batch = 24\n\
                [run]\nsample = 0\n";
    let own = format!("{path}.{:?}", std::thread::current().id());
    std::fs::write(&own, text).unwrap();
    std::fs::rename(&own, &path).unwrap();
    let flags = format!("--config {path} {flags}");
    parse::<Config>(&flags.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

/// The most bytes that the tensors of each rank take in a step, the second of a run.
fn peaks(config: &Ready<Config>) -> Vec<u64> {
    let run = config.clone();
    launch::launch(&config.launch(), move |mesh| {
        autograd::observe_memory()?;
        let mut trainer = step07::train::Trainer::new(&run, run.texts(), mesh)?;
        trainer.step()?;
        mesh.world.barrier()?;
        let recording = autograd::record_memory()?;
        let held = recording.held();
        trainer.step()?;
        Ok((held + autograd::peak(&recording.finish())) as u64)
    })
    .unwrap()
}

/// The plan counts what is large: tokens, masks, single rows and autograd's nodes are left out, and
/// so is the room that libtorch's products in bf16 take for themselves on a CPU.
fn bound(dtype: &str) -> f64 {
    if dtype == "bf16" { 0.10 } else { 0.04 }
}

#[test]
fn the_memory_foretold_is_the_most_that_a_rank_holds() {
    let mut wrong = vec![];
    for layout in ["--tp 1", "--tp 4", "--cp 2", "--pp 2 --schedule afab", "--pp 2 --cp 2 --tp 2"] {
        for recompute in ["none", "elementwise", "layer"] {
            for (dtype, how) in [
                ("bf16", "--sequence-parallel=false"),
                ("f32", "--sequence-parallel=false"),
                ("f32", "--sp-gather once"),
                ("f32", "--sp-gather twice"),
                ("bf16", "--sp-gather twice"),
            ] {
                if (!layout.contains("tp") || layout == "--tp 1") && !how.contains("twice") {
                    continue; // a rank that is alone has nothing to share out
                }
                let flags = format!("{layout} --dtype {dtype} --recompute {recompute} {how}");
                let config = wide(&flags);
                let plan = planned(&config);
                for (rank, measured) in peaks(&config).into_iter().enumerate() {
                    let foretold = plan.memory(config.parallel.layout().coords(rank)).total();
                    let error = measured as f64 / foretold as f64 - 1.0;
                    let what = format!("{:+.1}% {flags}, rank {rank}", 100.0 * error);
                    println!("{what}: {measured} of {foretold}");
                    wrong.extend((error.abs() > bound(dtype)).then_some(what));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Llama 3.1 8B on GPUs, on paper.
fn step_of_8b(flags: &str) -> plan::Step {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/llama-3.1-8b.toml");
    let flags = format!("--dry-run --config {path} --dp 1 --pp 1 --tp 2 {flags}");
    let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    plan::predict(&planned(&parse::<Config>(&flags).unwrap()), &Gpu::H100.figures())
}

/// Where nothing is hidden, the halves of a sum take as long as the sum, and each gather more takes
/// half of one.
#[test]
fn the_time_foretold_is_that_of_what_is_sent_and_computed() {
    let layers = 32.0;
    let tp = |flags: &str| step_of_8b(&format!("--tp-sync blocking {flags}")).tp;
    let sums = tp("--sequence-parallel=false");
    let sum = sums / (4.0 * layers + 2.0); // four a layer; behind the embedding, before the head
    approx::assert_relative_eq!(tp("--sp-gather once"), sums, max_relative = 1e-9);
    approx::assert_relative_eq!(tp("--sp-gather twice"), sums + layers * sum, max_relative = 1e-9);
    let again = tp("--sp-gather once --recompute layer");
    approx::assert_relative_eq!(again, sums + 2.0 * layers * sum, max_relative = 1e-9);
    // Beside products, a half is hidden more easily than a whole.
    assert!(step_of_8b("--sp-gather twice").tp < sums);

    let [none, elementwise, layer] =
        ["none", "elementwise", "layer"].map(|what| step_of_8b(&format!("--recompute {what}")));
    // A forward pass is two of seven products of attention, and a third of all others.
    approx::assert_relative_eq!(layer.attention, none.attention * 9.0 / 7.0, max_relative = 1e-9);
    assert!(layer.products > 1.3 * none.products && layer.products < 4.0 / 3.0 * none.products);
    assert_eq!([elementwise.products, elementwise.attention], [none.products, none.attention]);
    assert!(none.elementwise < elementwise.elementwise);
    // Norms and sums of a rank's own tokens alone.
    assert!(none.elementwise < step_of_8b("--sequence-parallel=false").elementwise);
}
