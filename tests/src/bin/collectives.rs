//! `collectives FLAGS…`: every rank sums, gathers and sends the same numbers twice, on its GPU through
//! NCCL and on the CPU around a ring, and ends in an error where the two differ.

use anyhow::{Result, ensure};
use comm::{Group, Mesh, Op};
use tch::{Device, Kind, Tensor};

const KINDS: [Kind; 7] =
    [Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half, Kind::Int64, Kind::Int, Kind::Uint8];

fn main() -> Result<()> {
    let flags: Vec<String> = std::env::args().skip(1).collect();
    let config = parity::parse(6, &flags)?;
    let device = config.device();
    comm::launch(&config.launch(), move |mesh: &Mesh| {
        let groups = [&mesh.world, &mesh.dp, &mesh.pp, &mesh.cp, &mesh.tp, &mesh.data];
        groups.into_iter().try_for_each(|group| check(mesh.rank, group, device))
    })?;
    Ok(())
}

fn check(rank: usize, group: &Group, device: Device) -> Result<()> {
    let n = group.size() as i64;
    for kind in KINDS {
        // Small whole numbers: sums of them are exact in every dtype, so order does not matter. Rows of
        // an odd number, and a part with gaps.
        let mine = (Tensor::arange(n * 21, (Kind::Int64, Device::Cpu)) + rank as i64).remainder(5);
        let mine = mine.view([3 * n, 7]).to_kind(kind);
        let both = |what: &str, f: &dyn Fn(&Tensor) -> Result<Tensor>| -> Result<()> {
            let (cpu, gpu) = (f(&mine.copy())?, f(&mine.to_device(device).copy())?);
            ensure!(gpu.device() == device, "{what}: the result is on {:?}", gpu.device());
            let name = group.name();
            ensure!(cpu.equal(&gpu.to_device(Device::Cpu)), "{what} of {kind:?} on {name} differ");
            Ok(())
        };
        for op in [Op::Sum, Op::Max, Op::Min] {
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
        })?;
        if group.size() > 1 {
            both("a ring of messages", &|t| {
                let (next, last) =
                    ((group.rank() + 1) % group.size(), group.rank() + group.size() - 1);
                let got = t.zeros_like();
                // All receive first: that must not hold up what they send.
                let arrived = group.irecv(&got, last % group.size());
                let sent = group.isend(t, next);
                arrived.wait()?;
                sent.wait()?;
                Ok(got)
            })?;
        }
    }
    Ok(())
}
