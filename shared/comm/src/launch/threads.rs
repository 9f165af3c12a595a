//! One process, a thread for each rank.

use super::outcome::{Failure, Fault, attempt};
use super::{GRACE, Launch};
use crate::abort::Abort;
use crate::mesh::{Mesh, Wiring};
use crate::transport;
use anyhow::{Context, anyhow};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// As a main thread usually has; only what is used is ever backed by memory.
const STACK: usize = 8 << 20;

enum Event<T> {
    Ended(usize, Result<T, Failure>),
    /// A rank has raised the abort, and may not end soon.
    Raised,
}

pub(super) fn launch<T: Send + 'static>(
    launch: &Launch,
    rank_main: impl Fn(&Mesh) -> anyhow::Result<T> + Send + Sync + 'static,
) -> anyhow::Result<Vec<T>> {
    let abort = Abort::new();
    let (events, inbox) = mpsc::channel();
    abort.on_raise({
        let events = events.clone();
        move || drop(events.send(Event::Raised))
    });
    let rank_main = Arc::new(rank_main);
    let mut threads = Vec::new();
    let transports = transport::threads(launch.layout.world(), abort.clone());
    for (rank, transport) in transports.into_iter().enumerate() {
        let name = launch.layout.coords(rank).to_string();
        let (launch, events, rank_main) = (launch.clone(), events.clone(), rank_main.clone());
        let (timeout, trace) = (launch.timeout, launch.trace);
        let gpu = launch.gpu.map(|gpu| gpu.ordinal);
        let wiring = Wiring { transport, abort: abort.clone(), timeout, trace, gpu };
        let started = thread::Builder::new()
            .name(name.clone())
            .stack_size(STACK)
            .spawn(move || rank_thread(rank, &name, &launch, &wiring, &events, &*rank_main))
            .with_context(|| format!("cannot start a thread for rank {rank}"));
        match started {
            Ok(thread) => threads.push(Some(thread)),
            Err(error) => {
                abort.raise(format!("{error:#}"));
                return Err(error);
            }
        }
    }

    let mut values: Vec<Option<T>> = (0..threads.len()).map(|_| None).collect();
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
                // Past its last statement; what remains is to hand back its memory.
                let _ = threads[rank].take().map(JoinHandle::join);
                match outcome {
                    Ok(value) => values[rank] = Some(value),
                    Err(failure) => failures.push(failure),
                }
            }
            Err(_) => break, // the grace is over, and whoever is not back is left behind
        }
    }
    if let Some(cause) = abort.cause() {
        return Err(anyhow!(fullest(cause, &failures)));
    }
    Ok(values.into_iter().flatten().collect())
}

fn rank_thread<T>(
    rank: usize,
    name: &str,
    launch: &Launch,
    wiring: &Wiring,
    events: &Sender<Event<T>>,
    rank_main: &impl Fn(&Mesh) -> anyhow::Result<T>,
) {
    let outcome = attempt(name, &wiring.abort, || {
        launch.set_intra_op_threads();
        let mesh = Mesh::new(launch.layout, rank, wiring)?;
        let outcome = attempt(name, &wiring.abort, || {
            let value = rank_main(&mesh)?;
            launch.drain()?;
            Ok(value)
        });
        if let Err(failure) = &outcome {
            // While there is a mesh: it ends only after what is in its lanes, and that waits for peers.
            wiring.abort.raise(&failure.sentence);
        }
        Ok(outcome)
    });
    let outcome = outcome.and_then(|outcome| outcome);
    if let Err(failure) = &outcome {
        wiring.abort.raise(&failure.sentence);
    }
    // Nobody listens where this rank has been left behind.
    let _ = events.send(Event::Ended(rank, outcome));
}

/// The cause as the rank that raised it tells it: a group raises what it knows, and the rank's own
/// error then adds the rank's name and what it was doing.
fn fullest(cause: String, failures: &[Failure]) -> String {
    let told = |f: &&Failure| f.fault != Fault::Echo && f.sentence.contains(&cause);
    failures.iter().find(told).map_or(cause.clone(), |f| f.sentence.clone())
}
