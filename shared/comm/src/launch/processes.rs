//! One process for each rank, started and watched by this one.

use super::env::WATCHED;
use super::line::{Word, say, words};
use super::outcome::{Failure, Fault};
use super::{GRACE, Launch};
use crate::rendezvous;
use anyhow::{Context, anyhow};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(10);

/// When dropped, all are killed: no rank outlives its launcher. Only then are they waited for,
/// since one with a GPU takes seconds to end, and the others must not go on computing meanwhile.
struct Ranks(Vec<Rank>);

struct Rank {
    name: String,
    process: Child,
    line: UnixStream,
    status: Option<ExitStatus>,
    /// Its line has closed, so all it had to say is here.
    silent: bool,
    /// Why it failed, in its own words.
    failure: Option<Failure>,
}

/// What rank .0 says, or `None` when its line closes.
type Event = (usize, Option<Word>);

pub(super) fn launch(launch: &Launch) -> anyhow::Result<()> {
    let secret: String = rendezvous::nonce()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let (events, inbox) = mpsc::channel();
    let mut all = Ranks(Vec::new());
    let ranks = &mut all.0;
    for rank in 0..launch.layout.world() {
        let started = start(launch, rank, &secret, &events);
        ranks.push(started.with_context(|| format!("cannot start a process for rank {rank}"))?);
    }

    // Ranks in the order in which they failed, and when the rest must have ended.
    let mut failed: Vec<usize> = Vec::new();
    let mut end = None;
    loop {
        match inbox.recv_timeout(LOOK) {
            Ok((_, Some(word @ Word::Port(_)))) => {
                for rank in &*ranks {
                    // If a rank has ended already, that is noticed below.
                    let _ = say(&rank.line, &word);
                }
            }
            Ok((rank, Some(Word::Failed(failure)))) => {
                failed.push(rank);
                ranks[rank].failure = Some(failure);
            }
            Ok((rank, None)) => ranks[rank].silent = true,
            Err(_) => {}
        }
        for (number, rank) in ranks.iter_mut().enumerate().filter(|(_, r)| r.status.is_none()) {
            rank.status = rank.process.try_wait().context("cannot watch a rank")?;
            if rank.status.is_some_and(|status| !status.success()) {
                failed.push(number);
            }
        }
        let told = ranks.iter().all(|r| r.status.is_some_and(|s| s.success() || r.silent));
        if !failed.is_empty() && end.is_none() {
            end = Some(Instant::now() + GRACE);
        }
        if told || end.is_some_and(|end| Instant::now() > end) {
            break;
        }
    }
    match verdict(ranks, &failed) {
        None => Ok(()),
        // Ranks that still run, or are stopped, are killed as `all` is dropped.
        Some(sentence) => Err(anyhow!(sentence)),
    }
}

fn start(
    launch: &Launch,
    rank: usize,
    secret: &str,
    events: &Sender<Event>,
) -> anyhow::Result<Rank> {
    let (line, theirs) = UnixStream::pair()?;
    let number = rank.to_string();
    let process = Command::new(std::env::current_exe()?)
        .envs(for_nccl(launch, rank, |name| std::env::var_os(name).is_some()))
        .args(std::env::args_os().skip(1))
        .env("RANK", &number)
        .env("LOCAL_RANK", &number)
        .env("WORLD_SIZE", launch.layout.world().to_string())
        .env("MASTER_ADDR", "127.0.0.1")
        // Rank 0 takes a free port and reports it over its line, so that no other program can take
        // it first.
        .env("MASTER_PORT", "0")
        .env("FERROTRON_SECRET", secret)
        .env(WATCHED, "1")
        .env_remove("TORCHELASTIC_RUN_ID")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(if rank == 0 { Stdio::inherit() } else { Stdio::null() })
        .spawn()?;
    let rank_line = Rank {
        name: launch.layout.coords(rank).to_string(),
        process,
        line,
        status: None,
        silent: false,
        failure: None,
    };
    let (reader, events) = (rank_line.line.try_clone()?, events.clone());
    thread::spawn(move || {
        for word in words(reader) {
            let _ = events.send((rank, Some(word)));
        }
        let _ = events.send((rank, None));
    });
    Ok(rank_line)
}

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
/// communicate as hosts do, over sockets. That is slow, but it is the real NCCL, and needs no
/// second card.
fn for_nccl(
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

/// Why the run failed: whichever of those in `failed` is the likeliest to be the first cause.
///
/// A rank killed by a signal reports nothing, and those that lost it may report first; so a signal
/// goes before everything. Then come ranks that blame themselves, then those that ended without a
/// report, then those that suspect or repeat others.
fn verdict(ranks: &[Rank], failed: &[usize]) -> Option<String> {
    let sentences = failed.iter().map(|&rank| {
        let Rank { name, status, failure, .. } = &ranks[rank];
        let signal = status.and_then(|status| status.signal());
        let code = status.and_then(|status| status.code());
        match (failure, signal, code) {
            (Some(Failure { fault: Fault::Own, sentence }), ..) => (1, sentence.clone()),
            (Some(Failure { fault: Fault::Suspect, sentence }), ..) => (3, sentence.clone()),
            (Some(Failure { fault: Fault::Echo, sentence }), ..) => (4, sentence.clone()),
            (None, Some(signal), _) => (0, format!("rank {name} was killed by signal {signal}")),
            (None, None, Some(code)) => (2, format!("rank {name} ended with exit code {code}")),
            (None, None, None) => (5, format!("rank {name} failed")),
        }
    });
    // Of equals the first.
    sentences.min_by_key(|(order, _)| *order).map(|(_, sentence)| sentence)
}

impl Drop for Ranks {
    fn drop(&mut self) {
        self.0.retain(|rank| rank.status.is_none());
        // Both fail only if it has ended by itself at this moment.
        self.0.iter_mut().for_each(|rank| drop(rank.process.kill()));
        self.0.iter_mut().for_each(|rank| drop(rank.process.wait()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::{Gpu, Launcher};

    #[test]
    fn a_rank_that_we_started_is_known_by_its_environment() {
        assert!(Launcher::has_started(|name| (name == WATCHED).then(|| "1".into())));
        assert!(!Launcher::has_started(|name| (name == "RANK").then(|| "1".into())));
    }

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
