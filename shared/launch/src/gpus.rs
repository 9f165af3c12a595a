//! What CUDA and NCCL read from a rank's environment.

use crate::settings::Launch;
use anyhow::anyhow;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Variables for CUDA and NCCL in every rank, read when the library is loaded.
const FOR_GPUS: [(&str, &str); 3] = [
    // As many hardware queues as there are: a stream that shares another's queue waits for what
    // that one waits for.
    ("CUDA_DEVICE_MAX_CONNECTIONS", "32"),
    // Ranks meet when a communicator is made, which all do in one order, and not at its first use.
    ("NCCL_RUNTIME_CONNECT", "0"),
    // A call returns when its work is queued; otherwise an event recorded after the call might come
    // before the work.
    ("NCCL_COMM_BLOCKING", "1"),
];

/// Sets them in a rank whose launcher (torchrun, srun, mpirun) does not know them: if the
/// environment lacks one, the program re-executes itself with all of them. To be called before
/// anything is opened or started.
///
/// # Errors
/// If the program cannot be re-executed.
pub fn settle_for_gpus() -> anyhow::Result<()> {
    let missing = FOR_GPUS.into_iter().filter(|(name, _)| std::env::var_os(name).is_none());
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe()?);
    let error = again.args(std::env::args_os().skip(1)).envs(missing).exec(); // returns only if it fails
    Err(anyhow!(error).context("cannot re-execute the program with the variables that GPUs need"))
}

/// Variables for CUDA and NCCL in a rank that is started here.
///
/// NCCL refuses two ranks on one GPU unless they seem to be on two hosts, and then they must
/// communicate as hosts do, over sockets. That is slow, but it is the real NCCL, and needs
/// no second card.
pub(crate) fn for_nccl(
    launch: &Launch,
    rank: usize,
    is_set: impl Fn(&str) -> bool,
) -> Vec<(&'static str, String)> {
    let Some(gpu) = launch.gpu else { return vec![] };
    let mut variables = FOR_GPUS.map(|(name, value)| (name, value.to_owned())).to_vec();
    if launch.layout.world() > gpu.count {
        variables.extend([
            ("NCCL_HOSTID", format!("rank-{rank}")),
            ("NCCL_P2P_DISABLE", "1".to_owned()),
            ("NCCL_SHM_DISABLE", "1".to_owned()),
            ("NCCL_NET", "Socket".to_owned()),
            ("NCCL_SOCKET_IFNAME", "lo".to_owned()),
        ]);
    }
    variables.retain(|(name, _)| !is_set(name)); // the user knows better
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Gpu;
    use comm::Layout;

    #[test]
    fn ranks_that_share_a_gpu_seem_to_be_on_hosts_of_their_own() {
        let names = |count: Option<usize>, rank: usize| {
            let gpu = count.map(|count| Gpu { ordinal: 0, count });
            let layout = Layout { dp: 4, ..Layout::default() };
            for_nccl(&Launch { gpu, layout, ..Launch::default() }, rank, |name| name == "NCCL_NET")
        };
        assert_eq!(names(None, 1), []);
        let queues = ("CUDA_DEVICE_MAX_CONNECTIONS", "32".to_owned());
        let early = ("NCCL_RUNTIME_CONNECT", "0".to_owned());
        let blocking = ("NCCL_COMM_BLOCKING", "1".to_owned());
        assert_eq!(names(Some(4), 1), [queues, early, blocking], "a card for each");
        for count in [1, 3] {
            let hosts = [0, 1].map(|rank| names(Some(count), rank)[3].clone());
            assert_eq!(hosts[0], ("NCCL_HOSTID", "rank-0".to_owned()));
            assert_eq!(hosts[1], ("NCCL_HOSTID", "rank-1".to_owned()));
            assert!(
                names(Some(count), 0).iter().all(|(name, _)| *name != "NCCL_NET"),
                "set already"
            );
        }
    }
}
