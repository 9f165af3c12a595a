//! The last questions of `make doctor`: can two ranks of this machine sum a tensor, and can
//! libtorch's CUDA half compile a kernel?
//!
//! `doctor threads` asks two threads of one process, `doctor processes` two processes over TCP, and
//! `doctor kernel` the compiler; that one takes no GPU.

use anyhow::{Context, ensure};
use comm::Layout;
use launch::{Launch, Launcher, launch};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

fn main() -> anyhow::Result<()> {
    let question = std::env::args().nth(1).context("which? threads, processes or kernel")?;
    if question == "kernel" {
        return gpu::can_compile();
    }
    let launcher: Launcher = question.parse().map_err(anyhow::Error::msg)?;
    let pair = Launch {
        layout: Layout { dp: 2, ..Layout::default() },
        launcher,
        timeout: Duration::from_secs(20),
        ..Launch::default()
    };
    launch(&pair, |mesh| {
        // Rank r holds r + 1 everywhere; large enough to travel in several pieces.
        let sum = Tensor::full([1 << 20], mesh.rank as f64 + 1.0, (Kind::Float, Device::Cpu));
        mesh.world.all_reduce(&sum)?;
        let (least, most) = (sum.min().double_value(&[]), sum.max().double_value(&[]));
        ensure!(least == 3.0 && most == 3.0, "1 + 2 gave between {least} and {most}");
        Ok(())
    })?;
    Ok(())
}
