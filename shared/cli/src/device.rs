//! The GPU of this process.

use crate::{DeviceName, Dtype, RunConfig};
use anyhow::{Result, anyhow, ensure};
use comm::Layout;
use launch::{EnvWorld, Gpu, Launcher};

/// Makes GPUs usable for a run on them, and chooses the one of this process.
pub(crate) fn choose(
    run: &mut RunConfig,
    layout: Layout,
    launcher: Launcher,
    env: impl Fn(&str) -> Option<String>,
) -> Result<()> {
    if run.device == DeviceName::Cpu {
        return Ok(());
    }
    let world = layout.world();
    ensure!(
        launcher != Launcher::Threads || world == 1,
        "launcher is threads, but on cuda each of {world} ranks is a process: use --launcher processes"
    );
    // Ranks that we start may share a GPU: they get the settings for that. Others would be
    // refused by NCCL.
    let shares = launcher != Launcher::Env || Launcher::has_started(&env);
    let local_rank = match launcher {
        Launcher::Env if world > 1 => EnvWorld::from_lookup(&env)?.local_rank,
        _ => Some(0), // one rank, or the process that starts them
    };
    if launcher == Launcher::Env && !Launcher::has_started(&env) {
        launch::settle_for_gpus()?;
    }
    let count = ::gpu::load().map_err(|why| {
        let advice = if why.is::<::gpu::OldDriver>() { UPDATE } else { SET_UP };
        anyhow!("device is cuda, but {why}: {advice}")
    })?;
    let gpu = pick(shares, local_rank, count)?;
    ensure!(
        world <= count || !shares || !::gpu::is_exclusive(gpu.ordinal).unwrap_or(false),
        "{world} ranks would share {count} GPUs, but GPU {} admits only one process: run `nvidia-smi -c DEFAULT` \
         as root to share it",
        gpu.ordinal
    );
    // If the driver does not say, the run will find out.
    if let Ok(capability) = ::gpu::capability(gpu.ordinal) {
        ensure!(
            ::gpu::has_kernels_for(capability),
            "GPU {} ({}) has compute capability {}.{}, and CUDA 13 has no kernels below 7.5 (Turing): use --device \
             cpu, or another GPU",
            gpu.ordinal,
            ::gpu::name(gpu.ordinal).unwrap_or_default(),
            capability.0,
            capability.1
        );
        check_attention(layout.cp, run.dtype, capability)?;
    }
    run.gpu_of_rank = Some(gpu);
    run.gpus = gpus_of_run(shares, world, count);
    Ok(())
}

/// In bf16 a ring's blocks are computed by FlashAttention, which has no kernels for older GPUs.
fn check_attention(cp: usize, dtype: Dtype, (major, minor): (i32, i32)) -> Result<()> {
    ensure!(
        cp == 1 || dtype != Dtype::Bf16 || major >= 8,
        "dtype is bf16 and cp {cp}, which needs a GPU of compute capability 8.0 or more (Ampere), but \
         this one has {major}.{minor}: use --dtype f32 or --cp 1"
    );
    Ok(())
}

/// The GPU of the rank with this number on its host. Without a number it must be the only one that
/// the rank sees.
fn pick(shares: bool, local_rank: Option<usize>, count: usize) -> Result<Gpu> {
    ensure!(
        local_rank.is_some() || count <= 1,
        "LOCAL_RANK is not set, but this rank sees {count} GPUs, and needs its number on its host to choose one"
    );
    let local_rank = local_rank.unwrap_or(0);
    ensure!(
        shares || local_rank < count,
        "LOCAL_RANK is {local_rank}, but this rank sees GPUs 0 to {}: start a rank for each GPU, or leave \
         LOCAL_RANK unset where each rank sees one alone",
        count - 1
    );
    Ok(Gpu { ordinal: local_rank % count, count })
}

/// How many GPUs all ranks have together. Ranks that we start are all on this host, and share its
/// GPUs where there are fewer; others have one each, on any number of hosts.
fn gpus_of_run(shares: bool, world: usize, count: usize) -> usize {
    if shares { world.min(count) } else { world }
}

const SET_UP: &str = "use --device cpu; where nvidia-smi shows a GPU, run `make setup CUDA=1`";
const UPDATE: &str = "use --device cpu, or update the driver (CUDA 13 needs 580 or newer)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_around_a_ring_is_refused_where_no_kernel_takes_it() {
        let refused = check_attention(2, Dtype::Bf16, (7, 5)).unwrap_err().to_string();
        let told = "dtype is bf16 and cp 2, which needs a GPU of compute capability 8.0 or more \
                    (Ampere), but this one has 7.5: use --dtype f32 or --cp 1";
        assert_eq!(refused, told);
        for (cp, dtype, major) in
            [(1, Dtype::Bf16, 7), (2, Dtype::F32, 7), (2, Dtype::Bf16, 8), (2, Dtype::Bf16, 10)]
        {
            assert!(check_attention(cp, dtype, (major, 0)).is_ok(), "{cp} {dtype:?} {major}");
        }
    }

    #[test]
    fn a_rank_takes_the_gpu_of_its_number_and_shares_only_where_we_start_it() {
        let ordinal = |shares, rank| pick(shares, Some(rank), 2).map(|gpu| gpu.ordinal);
        for (rank, expected) in [(0, 0), (1, 1), (2, 0), (7, 1)] {
            assert_eq!(ordinal(true, rank).unwrap(), expected);
        }
        assert_eq!(ordinal(false, 1).unwrap(), 1);
        let refused = ordinal(false, 2).unwrap_err().to_string();
        let told = "LOCAL_RANK is 2, but this rank sees GPUs 0 to 1: start a rank for each GPU, or leave \
                    LOCAL_RANK unset where each rank sees one alone";
        assert_eq!(refused, told);
    }

    #[test]
    fn ranks_that_share_gpus_have_no_more_than_there_are() {
        assert_eq!([1, 2, 4].map(|world| gpus_of_run(true, world, 2)), [1, 2, 2]);
        assert_eq!(gpus_of_run(false, 16, 8), 16, "two hosts, and this one has eight");
    }

    #[test]
    fn a_rank_without_a_number_takes_the_only_gpu_in_sight() {
        assert_eq!(pick(false, None, 1).unwrap().ordinal, 0);
        let refused = pick(false, None, 4).unwrap_err().to_string();
        let told = "LOCAL_RANK is not set, but this rank sees 4 GPUs, and needs its number on its host \
                    to choose one";
        assert_eq!(refused, told);
    }
}
