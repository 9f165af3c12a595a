//! One rank in this process; someone else started it and its peers.

use super::line::ParentLine;
use super::outcome::{Failure, Fault, attempt};
use super::{GRACE, Launch};
use crate::abort::Abort;
use crate::layout::Layout;
use crate::mesh::{Mesh, Wiring};
use crate::rendezvous::{Control, Join, WORD, World};
use crate::transport::TcpTransport;
use anyhow::{Context, anyhow, bail, ensure};
use std::io::Write;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

/// A rank's place in a world as its environment describes it, in the words of torchrun:
///
/// | variable | |
/// |---|---|
/// | `RANK` | this process's number, from 0 |
/// | `WORLD_SIZE` | how many there are |
/// | `LOCAL_RANK` | its number on this host, which names its GPU; optional |
/// | `MASTER_ADDR`, `MASTER_PORT` | where rank 0 listens |
/// | `FERROTRON_SECRET` | any text, the same on every rank; only ranks that know it are let in |
///
/// Without `FERROTRON_SECRET` rank 0 listens on loopback only. Under torchrun `MASTER_PORT` belongs
/// to torchrun itself, so rank 0 listens at the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvWorld {
    pub rank: usize,
    pub size: usize,
    pub local_rank: Option<usize>,
    pub host: String,
    pub port: u16,
    pub secret: Option<String>,
    /// Started by the processes launcher, which holds the other end of standard input.
    pub(super) watched: bool,
}

/// Set by the processes launcher for the ranks it starts.
pub(super) const WATCHED: &str = "FERROTRON_WATCHED";

impl EnvWorld {
    /// Reads the variables through `lookup`.
    ///
    /// # Errors
    /// One sentence for each thing that is missing, garbled or contradictory.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let rank: usize = number(&lookup, "RANK")?;
        let size: usize = number(&lookup, "WORLD_SIZE")?;
        let local_rank = match lookup("LOCAL_RANK") {
            Some(_) => Some(number(&lookup, "LOCAL_RANK")?),
            None => None,
        };
        let host = required(&lookup, "MASTER_ADDR")?;
        let mut port: u16 = number(&lookup, "MASTER_PORT")?;
        let secret = lookup("FERROTRON_SECRET").filter(|secret| !secret.is_empty());
        let watched = lookup(WATCHED).is_some();
        ensure!(rank < size, "RANK is {rank}, but WORLD_SIZE is {size}; ranks count from 0");
        ensure!(
            port > 0 || watched,
            "MASTER_PORT is 0, but all ranks must know the port; name one"
        );
        if lookup("TORCHELASTIC_RUN_ID").is_some() {
            let next = port.checked_add(1);
            port = next.context("MASTER_PORT is 65535, but under torchrun the next one is used")?;
        }
        let loopback = |host: &str| host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        ensure!(
            secret.is_some() || host == "localhost" || loopback(&host),
            "MASTER_ADDR is {host}, which others can reach: set FERROTRON_SECRET to the same text on every rank"
        );
        Ok(Self { rank, size, local_rank, host, port, secret, watched })
    }

    /// Whether this world has the shape of `layout`.
    pub fn check(&self, layout: &Layout) -> anyhow::Result<()> {
        let (size, world) = (self.size, layout.world());
        ensure!(size == world, "WORLD_SIZE is {size}, but {layout} takes {world} ranks");
        Ok(())
    }
}

fn required(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> anyhow::Result<String> {
    let value = lookup(name).filter(|value| !value.is_empty());
    value.with_context(|| {
        format!(
            "{name} is not set: --launcher env takes RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
        )
    })
}

fn number<T: FromStr>(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> anyhow::Result<T> {
    let text = required(lookup, name)?;
    let number = text.trim().parse();
    number.map_err(|_| anyhow!("{name} is {text:?}, but must be a whole number in its range"))
}

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
        // The parent says it once for all ranks.
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

    // Dropped when this rank's own code has come out.
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

    let result = attempt(&name, &abort, || {
        launch.set_intra_op_threads();
        let transport = TcpTransport::new(world.rank, listener, peers, key, abort.clone())?;
        let (timeout, trace) = (launch.timeout, launch.trace);
        let wiring = Wiring { transport, abort: abort.clone(), timeout, trace };
        let mesh = Mesh::new(launch.layout, world.rank, &wiring);
        let result = attempt(&name, &abort, || rank_main(&mesh));
        // The mesh outlives the goodbye: what peers have yet to read is still on its way.
        Ok(conclude(result, &control, launch))
    });
    drop(running);
    control.close();
    result.and_then(|concluded| concluded)
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

/// The run is over and this rank's own code has not noticed: it computes, and cannot be stopped.
fn end_stuck(abort: &Abort, control: &Control, line: Option<&ParentLine>) -> ! {
    let raised = || abort.cause().unwrap_or_default();
    let sentence = control.told(WORD / 4).unwrap_or_else(raised);
    match line {
        Some(line) => line.fail(&Failure { fault: Fault::Echo, sentence }),
        None => eprintln!("error: {sentence}"),
    }
    end_process()
}

/// Ends this process at once, with code 1: threads that compute would trip over what an orderly
/// exit takes down.
pub(super) fn end_process() -> ! {
    let _ = std::io::stdout().flush();
    // SAFETY: takes no pointers and does not return; nothing of this process runs afterwards.
    unsafe { libc::_exit(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound environment with some variables changed; an empty value removes one.
    fn read(changes: &[(&str, &str)]) -> Result<EnvWorld, String> {
        let sound = [
            ("RANK", "1"),
            ("WORLD_SIZE", "4"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", "29500"),
        ];
        let lookup = |name: &str| {
            let found = changes.iter().chain(&sound).find(|(n, _)| *n == name);
            found.map(|(_, value)| value.to_string()).filter(|value| !value.is_empty())
        };
        EnvWorld::from_lookup(lookup).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn a_sound_environment() {
        let world = read(&[("LOCAL_RANK", "0")]).unwrap();
        assert_eq!((world.rank, world.size, world.local_rank), (1, 4, Some(0)));
        assert_eq!((world.host.as_str(), world.port, world.secret), ("127.0.0.1", 29500, None));
        assert_eq!(read(&[]).unwrap().local_rank, None);
    }

    #[test]
    fn torchrun_keeps_its_own_port() {
        assert_eq!(read(&[("TORCHELASTIC_RUN_ID", "none")]).unwrap().port, 29501);
        let last = [("TORCHELASTIC_RUN_ID", "none"), ("MASTER_PORT", "65535")];
        assert!(read(&last).unwrap_err().contains("65535"));
    }

    #[test]
    fn only_loopback_goes_without_a_secret() {
        assert!(read(&[("MASTER_ADDR", "localhost")]).is_ok());
        assert!(read(&[("MASTER_ADDR", "::1")]).is_ok());
        assert!(read(&[("MASTER_ADDR", "10.0.0.1"), ("FERROTRON_SECRET", "s")]).is_ok());
        for host in ["10.0.0.1", "node1", "localhost.example.org", "127.0.0.1.example.org"] {
            let error = read(&[("MASTER_ADDR", host)]).unwrap_err();
            assert!(error.contains(host) && error.contains("set FERROTRON_SECRET"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value, part) in [
            ("RANK", "", "RANK is not set"),
            ("WORLD_SIZE", "", "WORLD_SIZE is not set"),
            ("MASTER_ADDR", "", "MASTER_ADDR is not set"),
            ("MASTER_PORT", "", "MASTER_PORT is not set"),
            ("RANK", "first", "RANK is \"first\""),
            ("RANK", "-1", "RANK is \"-1\""),
            ("LOCAL_RANK", "x", "LOCAL_RANK is \"x\""),
            ("MASTER_PORT", "70000", "MASTER_PORT is \"70000\""),
            ("MASTER_PORT", "0", "MASTER_PORT is 0"),
            ("RANK", "4", "RANK is 4, but WORLD_SIZE is 4"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.contains(part), "{name}={value}: {error}");
        }
        let layout = Layout { dp: 2, ..Layout::default() };
        let error = read(&[]).unwrap().check(&layout).unwrap_err().to_string();
        assert_eq!(error, "WORLD_SIZE is 4, but dp 2 · pp 1 · cp 1 · tp 1 takes 2 ranks");
    }
}
