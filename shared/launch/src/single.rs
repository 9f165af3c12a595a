//! One rank in this process, which another program started, like its peers.

use crate::env::EnvWorld;
use crate::exit::end_process;
use crate::line::ParentLine;
use crate::outcome::{Failure, Fault, attempt};
use crate::rendezvous::{Control, Join, WORD, World};
use crate::settings::{GRACE, Launch};
use crate::signals::{announce, ended};
use crate::tcp::TcpTransport;
use anyhow::{anyhow, bail};
use comm::sync::start;
use comm::{Abort, Interrupts, Mesh};
use std::sync::mpsc::{self, RecvTimeoutError};

pub(crate) fn launch<T>(
    launch: &Launch,
    world: &EnvWorld,
    rank_main: impl Fn(&Mesh) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    world.check(&launch.layout)?;
    let abort = Abort::new();
    launch.signals.listen({
        let (abort, rank) = (abort.clone(), rank_of(launch, world));
        move |signal| abort.raise(ended(&rank, signal)) // there is nothing to save yet
    });
    if !world.watched {
        let result = run(launch, world, None, abort, rank_main);
        let value = result.map_err(|failure| anyhow!(failure.sentence))?;
        return launch.signals.verdict(value, world.rank == 0);
    }
    // The parent prints once for all ranks how they ended.
    let line = ParentLine::from_stdin()?;
    let heard = launch.signals.check().and_then(|()| line.listen(launch.signals.clone()));
    let result = match heard {
        Ok(()) => run(launch, world, Some(&line), abort, rank_main),
        Err(error) => {
            let sentence = format!("{} failed: {error:#}", rank_of(launch, world));
            Err(Failure { fault: Fault::Own, sentence })
        }
    };
    let value = result.unwrap_or_else(|failure| {
        line.fail(&failure);
        end_process()
    });
    if let Some(signal) = launch.signals.agreed() {
        line.stopped(signal);
    }
    Ok(value)
}

fn rank_of(launch: &Launch, world: &EnvWorld) -> String {
    format!("rank {}", launch.layout.coords(world.rank))
}

fn run<T>(
    launch: &Launch,
    world: &EnvWorld,
    line: Option<&ParentLine>,
    abort: Abort,
    rank_main: impl Fn(&Mesh) -> anyhow::Result<T>,
) -> Result<T, Failure> {
    let name = launch.layout.coords(world.rank).to_string();
    let met = attempt(&name, &abort, || meet(launch, world, line, &abort));
    let World { listener, peers, key, control } = met?;
    launch.signals.listen({
        let (control, rank) = (control.clone(), rank_of(launch, world));
        let (saves, speaks) = (launch.signals.saves(), world.rank == 0 && line.is_none());
        move |signal| match saves {
            true if speaks => announce(signal),
            true => {}
            false => control.fail(&ended(&rank, signal)),
        }
    });

    // Dropped when this rank's own code has returned.
    let (running, out) = mpsc::channel::<()>();
    abort.on_raise({
        let (abort, control, line) = (abort.clone(), control.clone(), line.cloned());
        move || {
            // Without it a rank that computes just goes on to its next operation.
            let _ = start("end what is stuck", move || {
                if out.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                    end_stuck(&abort, &control, line.as_ref());
                }
            });
        }
    });

    let mesh = attempt(&name, &abort, || {
        launch.set_intra_op_threads();
        let transport = TcpTransport::new(world.rank, listener, peers, key, abort.clone())?;
        launch.mesh(world.rank, transport, &abort)
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

/// The run is over, and this rank's own code has not noticed: it is computing, and
/// cannot be stopped.
fn end_stuck(abort: &Abort, control: &Control, line: Option<&ParentLine>) -> ! {
    let raised = || abort.cause().unwrap_or_default();
    let sentence = control.told(WORD / 4).unwrap_or_else(raised);
    match line {
        Some(line) => line.fail(&Failure { fault: Fault::Echo, sentence }),
        None => eprintln!("error: {sentence}"),
    }
    end_process()
}
