//! How fast an all-reduce is: `cargo bench -p comm [-- --gloo] [--python PATH]`.
//!
//! Prints, for each transport, number of ranks and length of the buffer S, the time t of one
//! all-reduce of f32 and its bus bandwidth 2(n-1)/n·S/t, which is what one rank sends in a second.
//! Each figure is the best of many batches. `--gloo` runs torch.distributed on Gloo beside it,
//! where that Python (python3 by default) can import torch from .libtorch or by itself.

#[path = "../tests/ranks/mod.rs"]
mod ranks;

use ranks::Over;
use std::collections::HashMap;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Bytes.
const SIZES: [usize; 8] = [4, 1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 64 << 20];
const RANKS: [usize; 2] = [2, 4];

/// Batches, and all-reduces in each: the same as in gloo.py.
fn batches(size: usize) -> (usize, usize) {
    (20, ((8 << 20) / size).clamp(3, 200))
}

/// Time of one all-reduce.
fn all_reduce(over: Over, ranks: usize, size: usize) -> Duration {
    let times = ranks::run(over, ranks, |group| {
        let tensor = Tensor::zeros([size as i64 / 4], (Kind::Float, Device::Cpu));
        let (count, repeats) = batches(size);
        let batch = |_| {
            group.barrier().unwrap();
            let start = Instant::now();
            for _ in 0..repeats {
                group.all_reduce(&tensor).unwrap();
            }
            start.elapsed() / repeats as u32
        };
        (0..count).map(batch).min().unwrap()
    });
    times[0]
}

/// Bytes per second that each of `threads` threads copies at the same time.
fn copy_bandwidth(threads: usize, size: usize) -> f64 {
    let copy = || {
        let (from, mut to) = (vec![1u64; size / 8], vec![0u64; size / 8]);
        let repeats = (64 << 20) / size;
        let batch = |_| {
            let start = Instant::now();
            for _ in 0..repeats {
                // Not memcpy: on some processors its string instruction is slow between buffers
                // that lie at equal places in their pages.
                for (to, from) in to.iter_mut().zip(black_box(&from)) {
                    *to = from.wrapping_add(1);
                }
                black_box(&mut to);
            }
            (size * repeats) as f64 / start.elapsed().as_secs_f64()
        };
        (0..20).map(batch).fold(0., f64::max)
    };
    let each: Vec<f64> = thread::scope(|scope| {
        let copies: Vec<_> = (0..threads).map(|_| scope.spawn(copy)).collect();
        copies.into_iter().map(|c| c.join().unwrap()).collect()
    });
    each.iter().sum::<f64>() / threads as f64
}

/// Time of one all-reduce by size, or why there is none.
fn gloo(python: &str, ranks: usize) -> Result<HashMap<usize, Duration>, String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut path = here.join("../../.libtorch").into_os_string();
    if let Some(others) = std::env::var_os("PYTHONPATH") {
        path.push(":");
        path.push(others);
    }
    let output = Command::new(python)
        .arg(here.join("benches/gloo.py"))
        .arg(ranks.to_string())
        .args(SIZES.map(|size| size.to_string()))
        .env("PYTHONPATH", path)
        .output()
        .map_err(|e| format!("cannot run {python}: {e}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(errors.lines().last().unwrap_or("it failed").to_string());
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    let line = |line: &str| {
        let (size, micros) = line.split_once(' ')?;
        let seconds = micros.parse::<f64>().ok()? / 1e6;
        Some((size.parse().ok()?, Duration::from_secs_f64(seconds)))
    };
    Ok(lines.lines().filter_map(line).collect())
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag| args.iter().skip_while(move |a| *a != flag).nth(1);
    let python = after("--python").map_or("python3", |p| p.as_str());
    let compare = args.iter().any(|a| a == "--gloo");

    for (size, name) in [(256 << 10, "256 KiB"), (64 << 20, "64 MiB")] {
        let [one, two] = [1, 2].map(|threads| copy_bandwidth(threads, size) / 1e9);
        println!("copy of {name}: one thread {one:.1} GB/s, two at once {two:.1} GB/s each");
    }
    for ranks in RANKS {
        let gloo = compare.then(|| gloo(python, ranks));
        if let Some(Err(e)) = &gloo {
            println!("no Gloo: {e}");
        }
        let gloo = gloo.and_then(Result::ok);
        println!("\n{ranks} ranks: all-reduce of f32 (microseconds, GB/s bus bandwidth)");
        println!("{:>9} {:>19} {:>19} {:>19}  ratios", "bytes", "threads", "TCP", "Gloo");
        for size in SIZES {
            let bus = 2. * (ranks - 1) as f64 / ranks as f64 * size as f64;
            let show = |t: Duration| {
                format!("{:>10.1} {:>8.3}", t.as_secs_f64() * 1e6, bus / t.as_secs_f64() / 1e9)
            };
            let times = [Over::Threads, Over::Tcp].map(|over| all_reduce(over, ranks, size));
            print!("{size:>9} {} {}", show(times[0]), show(times[1]));
            if let Some(gloo) = gloo.as_ref().and_then(|g| g.get(&size)) {
                let [threads, tcp] = times.map(|t| gloo.as_secs_f64() / t.as_secs_f64());
                print!(" {}  threads {threads:.1}x, TCP {tcp:.1}x", show(*gloo));
            }
            println!();
        }
    }
}
