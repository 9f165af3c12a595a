//! Starting a world of ranks, and ending it.
//!
//! [`launch()`] runs one function on every rank: on threads, in processes that find each
//! other by a rendezvous, or in one process of a world that another program started. Every
//! rank gets a [`Mesh`]. Whatever happens to one rank, all others end within seconds, with
//! its name and the cause.
//!
//! Each file uses only those above it:
//!
//! 1. `exit`: how a process leaves a run that has failed.
//! 2. `secret`: what nobody else can guess.
//! 3. `signals`: how a batch system, or a person, asks a run to end.
//! 4. `outcome`: how a rank's own code ended, in one sentence, and whose fault that is.
//! 5. `env`: a world described by environment variables.
//! 6. `settings`: how to start a world.
//! 7. `gpus`: what CUDA and NCCL read from a rank's environment.
//! 8. `tcp`: bytes between processes, over sockets.
//! 9. `rendezvous`: how processes find each other, and how they hear that the world is over.
//! 10. `line`: between a rank and the process that started it.
//! 11. `threads`: one process, a thread for each rank.
//! 12. `single`: one rank in this process.
//! 13. `processes`: one process for each rank, started and watched by this one.
//!
//! Threads besides the ranks' own: one that waits for signals; with sockets, one that accepts
//! connections and one for each connection that is being authenticated; for the rendezvous, one
//! that sends heartbeats, one that reads each control line and, on rank 0, one that admits ranks.

#![warn(missing_docs)]

mod env;
mod exit;
mod gpus;
mod line;
mod outcome;
mod processes;
mod rendezvous;
mod secret;
mod settings;
mod signals;
mod single;
mod tcp;
mod threads;

pub use env::EnvWorld;
pub use exit::end_process;
pub use gpus::settle_for_gpus;
pub use outcome::in_one_sentence;
pub use settings::{Gpu, Launch, Launcher};
pub use signals::{Signals, Stopped};
pub use tcp::TcpTransport;

use anyhow::ensure;
use comm::{Layout, Mesh};

/// Runs `rank_main` on every rank and returns what the ranks of *this* process returned: with
/// threads all, in rank order; with env this one's; with processes, in the parent, none.
///
/// # Errors
/// One sentence that names the rank which failed first, by coordinates, and why. By then every
/// other rank has ended, or (a thread deep in a computation, which cannot be stopped) has been
/// abandoned after three seconds: the caller should leave through [`end_process`] rather than go
/// on. Or [`Stopped`], if a signal has ended the run between two steps: then all
/// ranks have ended well.
pub fn launch<T: Send + 'static>(
    launch: &Launch,
    rank_main: impl Fn(&Mesh) -> anyhow::Result<T> + Send + Sync + 'static,
) -> anyhow::Result<Vec<T>> {
    let Layout { dp, pp, cp, tp } = launch.layout;
    for (name, size) in [("dp", dp), ("pp", pp), ("cp", cp), ("tp", tp)] {
        ensure!(size > 0, "{name} is 0, but every dimension has at least one rank");
    }
    let variable = |name: &str| std::env::var(name).ok();
    match launch.launcher {
        Launcher::Threads => {
            let world = launch.layout.world();
            ensure!(
                launch.gpu.is_none() || world == 1,
                "{world} ranks with a GPU each are processes, not threads"
            );
            threads::launch(launch, rank_main)
        }
        // The ranks that this launcher starts come here too, with the same arguments.
        Launcher::Processes if variable(env::WATCHED).is_none() => {
            processes::launch(launch).map(|()| Vec::new())
        }
        Launcher::Processes | Launcher::Env => {
            let world = EnvWorld::from_lookup(variable)?;
            single::launch(launch, &world, rank_main).map(|value| vec![value])
        }
    }
}
