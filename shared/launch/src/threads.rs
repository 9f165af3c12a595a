//! One process, a thread for each rank.

use crate::outcome::{Failure, Fault, attempt};
use crate::settings::{GRACE, Launch};
use crate::signals::{announce, ended};
use anyhow::{Context, anyhow};
use comm::sync::LIMIT;
use comm::transport::Transport;
use comm::{Abort, Interrupts, Mesh, thread_transports};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// As a main thread usually has; only what is used is ever backed by memory.
const STACK: usize = 8 << 20;

enum Event<T> {
    Ended(usize, Result<T, Failure>),
    /// A rank has raised the abort, and may not end soon.
    Raised,
}

pub(crate) fn launch<T: Send + 'static>(
    launch: &Launch,
    rank_main: impl Fn(&Mesh) -> anyhow::Result<T> + Send + Sync + 'static,
) -> anyhow::Result<Vec<T>> {
    let abort = Abort::new();
    let (events, inbox) = mpsc::channel();
    abort.on_raise({
        let events = events.clone();
        move || drop(events.send(Event::Raised))
    });
    launch.signals.listen({
        let (abort, saves) = (abort.clone(), launch.signals.saves());
        move |signal| match saves {
            true => announce(signal),
            false => abort.raise(ended("the run", signal)),
        }
    });
    let rank_main = Arc::new(rank_main);
    let mut threads = Vec::new();
    let transports = thread_transports(launch.layout.world(), abort.clone());
    for (rank, transport) in transports.into_iter().enumerate() {
        let name = launch.layout.coords(rank).to_string();
        let (launch, events, rank_main) = (launch.clone(), events.clone(), rank_main.clone());
        let end = abort.clone();
        let started = thread::Builder::new()
            .name(name)
            .stack_size(STACK)
            .spawn(move || rank_thread(rank, &launch, transport, &end, &events, &*rank_main))
            .with_context(|| format!("cannot start a thread for rank {rank} ({LIMIT})"));
        match started {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                abort.raise(format!("{error:#}"));
                return Err(error);
            }
        }
    }

    let (values, failures) = collect(&inbox, threads);
    match abort.cause() {
        Some(cause) => Err(anyhow!(fullest(cause, &failures))),
        None => launch.signals.verdict(values, true),
    }
}

/// Waits for the ranks to end: what they returned, in rank order, and how the others failed. Once
/// the run has failed, those that have not ended within [`GRACE`] are abandoned.
fn collect<T>(inbox: &Receiver<Event<T>>, threads: Vec<JoinHandle<()>>) -> (Vec<T>, Vec<Failure>) {
    let mut threads: Vec<_> = threads.into_iter().map(Some).collect();
    let mut values: Vec<Option<T>> = threads.iter().map(|_| None).collect();
    let mut failures = Vec::new();
    let mut end = None;
    let mut running = threads.len();
    while running > 0 {
        let left = match end {
            None => Duration::MAX,
            Some(end) => Instant::saturating_duration_since(&end, Instant::now()),
        };
        match inbox.recv_timeout(left) {
            Ok(Event::Raised) => end = Some(Instant::now() + GRACE),
            Ok(Event::Ended(rank, outcome)) => {
                running -= 1;
                // It is past its last statement, and only returns its memory.
                let _ = threads[rank].take().map(JoinHandle::join);
                match outcome {
                    Ok(value) => values[rank] = Some(value),
                    Err(failure) => failures.push(failure),
                }
            }
            Err(_) => break,
        }
    }
    (values.into_iter().flatten().collect(), failures)
}

fn rank_thread<T>(
    rank: usize,
    launch: &Launch,
    transport: Arc<dyn Transport>,
    abort: &Abort,
    events: &Sender<Event<T>>,
    rank_main: &impl Fn(&Mesh) -> anyhow::Result<T>,
) {
    let name = launch.layout.coords(rank).to_string();
    let outcome = attempt(&name, abort, || {
        launch.set_intra_op_threads();
        let mesh = launch.mesh(rank, transport, abort)?;
        let outcome = attempt(&name, abort, || {
            let value = rank_main(&mesh)?;
            launch.drain()?;
            Ok(value)
        });
        if let Err(failure) = &outcome {
            // Before the mesh is dropped: that waits for what is in its lanes, which
            // waits for peers.
            abort.raise(&failure.sentence);
        }
        Ok(outcome)
    });
    let outcome = outcome.and_then(|outcome| outcome);
    if let Err(failure) = &outcome {
        abort.raise(&failure.sentence);
    }
    // Nobody listens if this rank has been abandoned.
    let _ = events.send(Event::Ended(rank, outcome));
}

/// The cause in the words of the rank that raised it: a group raises what it knows, and the rank's
/// own error then adds the rank's name and what it was doing.
fn fullest(cause: String, failures: &[Failure]) -> String {
    let told = |f: &&Failure| f.fault != Fault::Echo && f.sentence.contains(&cause);
    failures.iter().find(told).map_or(cause.clone(), |f| f.sentence.clone())
}
