//! The real libtorch_cuda under a step, on a GPU that only writes down what it is asked
//! (`recorder/`): whether that half of libtorch takes the arguments it is given, which the stand-in
//! cannot say, when the host waits, and how much memory its allocator takes. Runs where libtorch
//! has this half, GPU or not.
#![cfg(target_os = "linux")] // CUDA, and what takes its place here, are for Linux

use parity::parse;
use parity::recorder::{Call, Recorded, available, recorded};
use plan::Plan;
use step06::dry_run;

/// What the ranks of step 6 ask for under these flags; None where there is no library to ask.
fn asked(flags: &[String]) -> Option<Vec<Recorded>> {
    if let Err(why) = available() {
        println!("skipped: {why}");
        return None;
    }
    let flags: Vec<String> = flags.iter().cloned().chain(device()).collect();
    Some(recorded(env!("CARGO_BIN_EXE_kernels"), 6, &flags).unwrap())
}

fn device() -> impl Iterator<Item = String> {
    ["--device", "cuda"].map(str::to_owned).into_iter()
}

fn flags(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

const LAYOUTS: [&str; 6] = [
    "--dp 1 --pp 1 --cp 1 --tp 1",
    "--dp 2 --pp 1 --cp 1 --tp 1",
    "--dp 1 --pp 2 --cp 1 --tp 1",
    "--dp 1 --pp 1 --cp 2 --tp 1",
    "--dp 1 --pp 1 --cp 1 --tp 2",
    "--dp 1 --pp 2 --cp 2 --tp 2",
];

/// A kernel that gets a shape, a layout or a dtype that it does not take ends the run.
#[test]
fn cudas_half_of_libtorch_takes_what_it_is_given() {
    for dtype in ["f32", "f64", "bf16"] {
        for layout in LAYOUTS {
            let Some(ranks) = asked(&flags(&format!("{layout} --dtype {dtype} --steps 2"))) else {
                return;
            };
            for Recorded { rank, steps, .. } in ranks {
                assert_eq!(steps.len(), 2, "{layout} {dtype}, rank {rank}");
                // Products only in f32 and wider, where no less was asked for.
                let half = |call: &Call| matches!(call, Call::Product { what, .. } if what.contains("bf16"));
                assert_eq!(steps[1].iter().any(half), dtype == "bf16", "{layout} {dtype}");
            }
        }
    }
}

/// The host queues a step and goes on. It waits for two numbers that the step reports, at
/// its end; nothing is taken from the GPU any more; and what travels does so beside the
/// stream that computes.
#[test]
fn a_step_waits_at_its_end_alone() {
    for layout in LAYOUTS {
        for dtype in ["f32", "bf16"] {
            let flags = flags(&format!("{layout} --dtype {dtype} --steps 6"));
            for Recorded { rank, steps, .. } in asked(&flags).unwrap_or_default() {
                let what = format!("{layout} {dtype}, rank {rank}");
                for step in &steps[2..] {
                    let waits = step.iter().filter(|call| matches!(call, Call::Wait(_)));
                    assert_eq!(waits.count(), 2, "{what}");
                    let [.., loss, _, norm, _] = &step[..] else { panic!("{what}: too short") };
                    assert!(loss.is_read() && norm.is_read(), "{what}: {loss:?}, {norm:?}");
                    let mallocs = step.iter().filter(|call| matches!(call, Call::Malloc(_)));
                    assert_eq!(mallocs.count(), 0, "{what}");
                    let beside = |call: &Call| !matches!(call, Call::Nccl { stream: 0, .. });
                    assert!(step.iter().all(beside), "{what}");
                }
            }
        }
    }
}

/// Kernels that read a number at a time take up to twice as long as those that read 16 bytes
/// at once. SwiGLU is the largest of all elementwise work: its halves lie where the fast
/// ones can be taken.
#[test]
fn swiglu_reads_whole_pieces() {
    let flags = flags("--dp 1 --pp 1 --cp 1 --tp 1 --dtype bf16 --steps 2");
    for Recorded { steps, .. } in asked(&flags).unwrap_or_default() {
        let silu = steps.iter().flatten().filter_map(|call| match call {
            Call::Kernel { name, .. } if name.contains("silu") => Some(name),
            _ => None,
        });
        let names: Vec<_> = silu.collect();
        assert!(!names.is_empty());
        assert!(names.iter().all(|name| name.contains("vectorized_elementwise")), "{names:?}");
    }
}

/// The dry run's memory against that of the allocator itself, within 4 %: it rounds blocks up by as
/// much as a megabyte, and messages under way and scratch space of kernels are not foretold.
#[test]
fn the_memory_foretold_is_what_the_allocator_gives() {
    /// What libtorch gives cuBLAS on Hopper, once (CUDABlas.cpp).
    const WORKSPACE: u64 = 32 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.toml");
    let model = "[model]\nvocab_size = 16384\nhidden_size = 1024\nintermediate_size = 2816\nnum_hidden_layers = 4\n\
                 num_attention_heads = 16\nnum_key_value_heads = 8\n[data]\nseq-len = 2048\n";
    std::fs::write(&path, model).unwrap();
    for layout in LAYOUTS {
        let run = format!(
            "--config {} {layout} --global-batch 32 --micro-batch 2 --dtype bf16 --steps 2",
            path.display()
        );
        let Some(ranks) = asked(&flags(&run)) else { return };
        let config =
            parse::<step06::config::Config>(&flags(&format!("{run} --device cuda --dry-run")))
                .unwrap();
        let plan = Plan::new(dry_run::run(&config), dry_run::trainer(&config));
        for Recorded { rank, peak, .. } in ranks {
            let foretold = plan.memory(config.parallel.layout().coords(rank)).total() + WORKSPACE;
            let error = peak as f64 / foretold as f64 - 1.0;
            let percent = 100.0 * error;
            println!("{layout}, rank {rank}: {peak} bytes, {foretold} foretold, {percent:+.2} %");
            assert!(error.abs() < 0.04, "{layout}, rank {rank}");
        }
    }
}
