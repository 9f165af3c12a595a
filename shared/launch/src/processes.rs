//! One process for each rank, started and watched by this one.

use crate::env::WATCHED;
use crate::gpus::for_nccl;
use crate::line::{Word, say, words};
use crate::outcome::{Failure, Fault};
use crate::secret::nonce;
use crate::settings::{GRACE, Launch};
use crate::signals::{announce, ended};
use anyhow::{Context, anyhow};
use comm::Interrupts;
use comm::sync::start as start_thread;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
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

pub(crate) fn launch(launch: &Launch) -> anyhow::Result<()> {
    let secret: String = nonce()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let (events, inbox) = mpsc::channel();
    let mut all = Ranks(Vec::new());
    let ranks = &mut all.0;
    for rank in 0..launch.layout.world() {
        let started = start(launch, rank, &secret, &events);
        ranks.push(started.with_context(|| {
            format!(
                "cannot start a process for rank {rank} (`ulimit -u` and `ulimit -n` set limits)"
            )
        })?);
    }

    // Passed on below. (A signal may also come to the ranks directly; it counts once.)
    launch.signals.listen({
        let saves = launch.signals.saves();
        move |signal| {
            if saves {
                announce(signal)
            }
        }
    });
    let mut passed_on = false;

    // Ranks in the order in which they failed, and when the rest must have ended.
    let mut failed: Vec<usize> = Vec::new();
    let mut end = None;
    loop {
        if let Some(signal) = launch.signals.told() {
            if !launch.signals.saves() {
                return Err(anyhow!(ended("the run", signal)));
            }
            if !std::mem::replace(&mut passed_on, true) {
                ranks.iter().for_each(|rank| drop(say(&rank.line, &Word::Stop(signal))));
            }
        }
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
            Ok((_, Some(Word::Stopped(signal)))) => launch.signals.agree(signal),
            Ok((_, Some(Word::Stop(_)))) => {} // only said from here
            Ok((rank, None)) => ranks[rank].silent = true,
            Err(_) => {}
        }
        for (number, rank) in ranks.iter_mut().enumerate().filter(|(_, r)| r.status.is_none()) {
            rank.status = rank.process.try_wait().context("cannot watch a rank")?;
            if rank.status.is_some_and(|status| !status.success()) {
                failed.push(number);
            }
        }
        let told = ranks.iter().all(|r| r.status.is_some() && r.silent);
        if !failed.is_empty() && end.is_none() {
            end = Some(Instant::now() + GRACE);
        }
        if told || end.is_some_and(|end| Instant::now() > end) {
            break;
        }
    }
    match verdict(ranks, &failed) {
        None => launch.signals.verdict((), true),
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
        // Rank 0 takes a free port and reports it over its line, so that no other program
        // can take it first.
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
    start_thread("hear a rank", move || {
        for word in words(reader) {
            let _ = events.send((rank, Some(word)));
        }
        let _ = events.send((rank, None));
    })?;
    Ok(rank_line)
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
    use crate::settings::Launcher;

    #[test]
    fn a_rank_that_we_started_is_known_by_its_environment() {
        assert!(Launcher::has_started(|name| (name == WATCHED).then(|| "1".into())));
        assert!(!Launcher::has_started(|name| (name == "RANK").then(|| "1".into())));
    }
}
