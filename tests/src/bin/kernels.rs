//! `kernels STEP FLAGS…`: what a step asks of a GPU, counted on a machine that need not have one.
//! The real libtorch_cuda runs on a recorder of its calls (`recorder/`), so it takes
//! `make setup CUDA=1`.
//!
//!     cargo run -p parity --bin kernels -- 6 --dp 1 --pp 1 --cp 1 --tp 1 --dtype bf16

use anyhow::{Context, Result, ensure};
use comm::Coords;
use parity::Training;
use parity::recorder::{self, Call, PATH, Recorded, files_of, recorded};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

fn main() -> Result<()> {
    let mut args = std::env::args();
    let program = args.next().context("a program has a name")?;
    let step: u8 = args.next().context("usage: kernels STEP FLAGS…")?.parse()?;
    let mut flags: Vec<String> = args.collect();
    if let Some(path) = std::env::var_os(PATH) {
        return train(step, &flags, path.as_ref());
    }
    recorder::available()?;
    flags.extend(["--device", "cuda", "--sample", "0"].map(str::to_owned));
    for rank in recorded(&program, step, &flags)? {
        print(&rank)?;
    }
    Ok(())
}

/// Trains on the recorder, which writes each rank's calls to `path.RANK`. Memory and time are
/// written beside.
fn train(step: u8, flags: &[String], path: &Path) -> Result<()> {
    let steps = parity::train_config(step, flags)?.steps;
    let path = path.to_owned();
    let drive = move |rank: usize, _: Coords, trainer: &mut dyn Training| {
        let mut start = Instant::now();
        for _ in 0..steps {
            start = Instant::now();
            trainer.step()?;
        }
        let host = 1e3 * start.elapsed().as_secs_f64();
        let peak = gpu::peak_memory().context("there is no GPU")?;
        let [_, file] = files_of(&path, rank);
        std::fs::write(file, format!("{peak} {host}")).context("cannot write what a rank took")
    };
    parity::train_with(step, flags, |_, _| (), drive).map(drop)
}

fn print(recorded: &Recorded) -> Result<()> {
    let Recorded { rank, peak, host, steps } = recorded;
    ensure!(
        steps.len() > 1,
        "take two steps or more: the first one is not told apart from the start"
    );
    let last = &steps[steps.len() - 1];
    let mut counts = BTreeMap::<&str, usize>::new();
    let (mut reserved, mut fresh) = (0, 0);
    for call in last {
        let what = match call {
            Call::Kernel { name, .. } => family(name),
            Call::Product { .. } => "matrix products",
            Call::Copy { way, .. } if way == "down" => "numbers that the host reads",
            Call::Copy { way, .. } if way == "up" => "copies to the GPU",
            Call::Copy { .. } => "copies on the GPU",
            Call::Nccl { operation, .. } => operation,
            Call::Wait(_) => "times that the host waits",
            Call::Malloc(_) | Call::Other(_) => continue,
        };
        *counts.entry(what).or_default() += 1;
    }
    for (at, step) in steps.iter().enumerate() {
        let bytes = |call: &Call| if let Call::Malloc(bytes) = call { *bytes } else { 0 };
        let bytes: u64 = step.iter().map(bytes).sum();
        reserved += bytes;
        fresh = if at == 0 { 0 } else { fresh + bytes };
    }
    println!("rank {rank}, step {}:", steps.len());
    for (what, count) in counts {
        println!("{count:>8}  {what}");
    }
    println!("{host:>8.0}  milliseconds of the host's time");
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    println!(
        "memory: {:.2} GiB at most, {:.2} GiB taken from the GPU, {:.2} GiB of that after the first step\n",
        gib(*peak),
        gib(reserved),
        gib(fresh)
    );
    Ok(())
}

/// What a kernel of libtorch's is for, by the words in its name.
fn family(name: &str) -> &'static str {
    let families = [
        ("flash_", "attention kernels"),
        ("layer_norm", "norm kernels"),
        ("GammaBeta", "norm kernels"),
        ("multi_tensor", "optimiser kernels, each for many weights"),
        ("vectorized_elementwise", "elementwise kernels that read 16 bytes at once"),
        ("elementwise", "elementwise kernels that read a number at a time"),
        ("CatArray", "concatenations"),
        ("reduce_kernel", "reductions"),
    ];
    let found = families.into_iter().find(|(word, _)| name.contains(word));
    found.map_or("other kernels", |(_, family)| family)
}
