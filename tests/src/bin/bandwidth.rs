//! `bandwidth FLAGS…`: how long an all-reduce over all ranks takes, for `tests/bench/gpu_bench.py`.
//! The leader prints a line for each size: bytes, and seconds of one all-reduce, the best of
//! several batches.

use anyhow::Result;
use comm::Mesh;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

/// Bytes: from what delays decide to what the links do. As in `gpu_bench.py`.
const SIZES: [i64; 4] = [1 << 20, 16 << 20, 128 << 20, 512 << 20];
const BATCHES: usize = 5;
const REPEATS: u32 = 10;

fn main() -> Result<()> {
    let flags: Vec<String> = std::env::args().skip(1).collect();
    let config = parity::parse::<step06::config::Config>(&flags)?;
    let device = config.run.device();
    launch::launch(&config.launch(), move |mesh: &Mesh| {
        for bytes in SIZES {
            let tensor = Tensor::zeros([bytes / 2], (Kind::BFloat16, device));
            let batch = |_| -> Result<f64> {
                wait(device)?;
                mesh.world.barrier()?;
                let start = Instant::now();
                for _ in 0..REPEATS {
                    mesh.world.all_reduce(&tensor)?;
                }
                wait(device)?;
                Ok(start.elapsed().as_secs_f64() / f64::from(REPEATS))
            };
            let times = (0..=BATCHES).map(batch).collect::<Result<Vec<_>>>()?;
            // The first one finds connections to be made and memory to be got.
            let best = times[1..].iter().copied().fold(f64::INFINITY, f64::min);
            if mesh.is_leader() {
                println!("{bytes} {best}");
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// Until the GPU has done what was queued.
fn wait(device: Device) -> Result<()> {
    match device {
        Device::Cuda(ordinal) => gpu::synchronize(ordinal),
        _ => Ok(()),
    }
}
