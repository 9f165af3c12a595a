//! `collectives FLAGS…`: every rank sums, gathers and sends the same numbers twice, on its GPU
//! through NCCL and on the CPU around a ring, and ends in an error where the two differ.

use anyhow::{Result, ensure};
use comm::{Group, Mesh, ReduceOp};
use tch::{Device, Kind, Tensor};

const KINDS: [Kind; 7] =
    [Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half, Kind::Int64, Kind::Int, Kind::Uint8];

fn main() -> Result<()> {
    let flags: Vec<String> = std::env::args().skip(1).collect();
    let config = parity::parse::<step06::config::Config>(&flags)?;
    let device = config.run.device();
    launch::launch(&config.launch(), move |mesh: &Mesh| {
        for group in [&mesh.world, &mesh.dp, &mesh.pp, &mesh.cp, &mesh.tp, &mesh.dp_cp] {
            check(mesh.rank, group, device)?;
        }
        // Messages go where a run sends them: there the neighbours are connected from the start.
        [&mesh.pp, &mesh.cp].into_iter().try_for_each(|group| pass_around(mesh.rank, group, device))
    })?;
    Ok(())
}

/// Runs `f` on this rank's numbers, once on the CPU and once on the GPU.
fn both(
    (rank, group, device): (usize, &Group, Device),
    what: &str,
    f: &dyn Fn(&Tensor) -> Result<Tensor>,
) -> Result<()> {
    let n = group.size() as i64;
    for kind in KINDS {
        // Small whole numbers: sums of them are exact in every dtype, so order does not matter.
        // Rows of an odd number.
        let mine = (Tensor::arange(n * 21, (Kind::Int64, Device::Cpu)) + rank as i64).remainder(5);
        let mine = mine.view([3 * n, 7]).to_kind(kind);
        let (cpu, gpu) = (f(&mine.copy())?, f(&mine.to_device(device).copy())?);
        ensure!(gpu.device() == device, "{what}: the result is on {:?}", gpu.device());
        let name = group.name();
        ensure!(cpu.equal(&gpu.to_device(Device::Cpu)), "{what} of {kind:?} on {name} differ");
    }
    Ok(())
}

fn check(rank: usize, group: &Group, device: Device) -> Result<()> {
    let both =
        |what: &str, f: &dyn Fn(&Tensor) -> Result<Tensor>| both((rank, group, device), what, f);
    for op in [ReduceOp::Sum, ReduceOp::Max] {
        both("all_reduce", &|t| {
            group.all_reduce_op(t, op)?;
            Ok(t.shallow_clone())
        })?;
    }
    both("all_reduce with gaps", &|t| {
        group.all_reduce(&t.narrow(1, 2, 3))?;
        Ok(t.shallow_clone())
    })?;
    both("reduce_scatter", &|t| Ok(group.reduce_scatter(t)?))?;
    both("all_gather", &|t| Ok(group.all_gather_async(t).wait()?))?;
    both("broadcast", &|t| {
        group.broadcast(t, group.size() - 1)?;
        Ok(t.shallow_clone())
    })
}

fn pass_around(rank: usize, group: &Group, device: Device) -> Result<()> {
    let n = group.size();
    if n == 1 {
        return Ok(());
    }
    both((rank, group, device), "a ring of messages", &|t| {
        // All receive first: that must not hold up what they send.
        let arrived = group.irecv(&t.zeros_like(), (group.rank() + n - 1) % n);
        let sent = group.isend(t, (group.rank() + 1) % n);
        let received = arrived.wait()?;
        sent.wait()?;
        Ok(received)
    })
}
