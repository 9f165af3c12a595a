//! One rank in this process, which another program started, like its peers.

use super::env::EnvWorld;
use super::line::ParentLine;
use super::outcome::{Failure, Fault, attempt};
use super::{GRACE, Launch};
use crate::abort::Abort;
use crate::mesh::{Mesh, Wiring};
use crate::rendezvous::{Control, Join, WORD, World};
use crate::transport::TcpTransport;
use anyhow::{anyhow, bail};
use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

pub(super) fn launch<T>(
    launch: &Launch,
    world: &EnvWorld,
    rank_main: impl Fn(&Mesh) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    world.check(&launch.layout)?;
    if !world.watched {
        return run(launch, world, None, rank_main).map_err(|failure| anyhow!(failure.sentence));
    }
    let line = ParentLine::from_stdin()?;
    run(launch, world, Some(&line), rank_main).map_err(|failure| {
        // The parent prints it once for all ranks.
        line.fail(&failure);
        end_process()
    })
}

fn run<T>(
    launch: &Launch,
    world: &EnvWorld,
    line: Option<&ParentLine>,
    rank_main: impl Fn(&Mesh) -> anyhow::Result<T>,
) -> Result<T, Failure> {
    let abort = Abort::new();
    let name = launch.layout.coords(world.rank).to_string();
    let met = attempt(&name, &abort, || meet(launch, world, line, &abort));
    let World { listener, peers, key, control } = met?;

    // Dropped when this rank's own code has returned.
    let (running, out) = mpsc::channel::<()>();
    abort.on_raise({
        let (abort, control, line) = (abort.clone(), control.clone(), line.cloned());
        move || {
            thread::spawn(move || {
                if out.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                    end_stuck(&abort, &control, line.as_ref());
                }
            });
        }
    });

    let mesh = attempt(&name, &abort, || {
        launch.set_intra_op_threads();
        let transport = TcpTransport::new(world.rank, listener, peers, key, abort.clone())?;
        let (timeout, trace) = (launch.timeout, launch.trace);
        let gpu = launch.gpu.map(|gpu| gpu.ordinal);
        let wiring = Wiring { transport, abort: abort.clone(), timeout, trace, gpu };
        Mesh::new(launch.layout, world.rank, &wiring)
    });
    let result = match mesh {
        Err(failure) => conclude(Err(failure), &control, launch),
        Ok(mesh) => {
            let result = attempt(&name, &abort, || {
                let value = rank_main(&mesh)?;
                launch.drain()?;
                Ok(value)
            });
            // The mesh outlives the goodbye: peers may not have read everything yet.
            conclude(result, &control, launch)
        }
    };
    drop(running);
    control.close();
    result
}

fn meet(
    launch: &Launch,
    world: &EnvWorld,
    line: Option<&ParentLine>,
    abort: &Abort,
) -> anyhow::Result<World> {
    let port = match line {
        // Rank 0 has taken a free one, and the parent passes it on.
        Some(line) if world.rank > 0 => match line.port(launch.timeout) {
            Some(port) => port,
            None => bail!("rank 0 did not open a port within {} s", launch.timeout.as_secs_f64()),
        },
        _ => world.port,
    };
    let join = Join {
        layout: launch.layout,
        agreement: launch.agreement.clone(),
        rank: world.rank,
        host: world.host.clone(),
        port,
        secret: world.secret.clone().unwrap_or_default(),
        timeout: launch.timeout,
        silence: launch.silence,
        abort: abort.clone(),
    };
    join.join(|port| {
        if let Some(line) = line {
            line.listening(port);
        }
    })
}

/// Tells the others how this rank's own code ended, and hears how theirs did.
fn conclude<T>(
    result: Result<T, Failure>,
    control: &Control,
    launch: &Launch,
) -> Result<T, Failure> {
    let echo = |sentence| Failure { fault: Fault::Echo, sentence };
    let failure = match result {
        Ok(value) => {
            return match control.goodbye(launch.timeout) {
                Ok(()) => Ok(value),
                Err(cause) => Err(echo(cause.to_string())),
            };
        }
        Err(failure) => failure,
    };
    if failure.fault != Fault::Own
        && let Some(cause) = control.told(WORD)
    {
        return Err(echo(cause));
    }
    control.fail(&failure.sentence);
    Err(failure)
}

/// The run is over, and this rank's own code has not noticed: it is computing, and cannot be
/// stopped.
fn end_stuck(abort: &Abort, control: &Control, line: Option<&ParentLine>) -> ! {
    let raised = || abort.cause().unwrap_or_default();
    let sentence = control.told(WORD / 4).unwrap_or_else(raised);
    match line {
        Some(line) => line.fail(&Failure { fault: Fault::Echo, sentence }),
        None => eprintln!("error: {sentence}"),
    }
    end_process()
}

/// Ends this process at once, with code 1, as a run that has failed should: an abandoned rank may
/// still be computing, and would crash when an orderly exit takes things down.
pub fn end_process() -> ! {
    let _ = std::io::stdout().flush();
    // SAFETY: takes no pointers and does not return; nothing of this process runs afterwards.
    unsafe { libc::_exit(1) }
}
