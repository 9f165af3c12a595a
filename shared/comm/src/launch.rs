//! Starting a world and ending it: `rank_main` runs once for every rank of the layout.

pub(crate) mod env;
mod gpus;
mod line;
mod outcome;
mod processes;
mod single;
mod threads;

pub use env::EnvWorld;
pub use gpus::settle_for_gpus;
pub(crate) use outcome::caught;
pub use outcome::in_one_sentence;
pub use single::end_process;

use crate::layout::Layout;
use crate::mesh::Mesh;
use crate::signals::Signals;
use anyhow::ensure;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a rank is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Launcher {
    /// A thread of this process.
    #[default]
    Threads,
    /// A process on this host, started by this one: the same binary with the same arguments.
    Processes,
    /// This process, started by another program (torchrun, srun, mpirun, a shell) that describes
    /// the world in the environment; see [`EnvWorld`].
    Env,
}

/// How to start a world.
#[derive(Clone, Debug)]
pub struct Launch {
    pub layout: Layout,
    /// What else must be the same on all ranks, each as a phrase such as `lr 0.001`, always in the
    /// same order. Ranks that are started one by one compare them when they meet; if one differs,
    /// the run ends with a sentence that has both phrases.
    pub agreement: Vec<String>,
    pub launcher: Launcher,
    /// Threads libtorch may use inside an operation, on each rank. More than one pays only on an
    /// idle machine: the threads spin for each other at every operation, and on a busy one each
    /// spin costs a time slice.
    pub threads_per_rank: usize,
    /// Longest wait for another rank: to join, within an operation, and to finish. `Duration::MAX`
    /// is no limit.
    pub timeout: Duration,
    /// A process that has not been heard from for this long counts as lost (it sends a heartbeat
    /// once a second). Ten seconds are ten heartbeats: long enough for a machine that swaps or
    /// starts many ranks at once, short enough for a person who waits.
    pub silence: Duration,
    /// Record what every rank does; see [`Mesh::write_trace`].
    pub trace: bool,
    /// Where tensors are on GPUs.
    pub gpu: Option<Gpu>,
    /// What tells the run to end.
    pub signals: Signals,
}

/// The GPU of a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// That of this process's rank.
    pub ordinal: usize,
    /// How many this host has. Where it starts more ranks than that, they share them.
    pub count: usize,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            layout: Layout::default(),
            agreement: Vec::new(),
            launcher: Launcher::default(),
            threads_per_rank: 1,
            timeout: Duration::from_secs(300),
            silence: Duration::from_secs(10),
            trace: false,
            gpu: None,
            signals: Signals::default(),
        }
    }
}

/// How long a rank may go on by itself after the run has failed, before it is abandoned or killed.
const GRACE: Duration = Duration::from_secs(3);

/// Runs `rank_main` on every rank and returns what the ranks of *this* process returned: with
/// threads all, in rank order; with env this one's; with processes, in the parent, none.
///
/// # Errors
/// One sentence that names the rank which failed first, by coordinates, and why. By then every
/// other rank has ended, or (a thread deep in a computation, which cannot be stopped) has been
/// abandoned after three seconds: the caller should leave through [`end_process`] rather than go
/// on. Or [`Stopped`](crate::Stopped), if a signal has ended the run between two steps: then all
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

impl Launch {
    /// Tells libtorch how many threads to use inside the operations of the calling thread; it keeps
    /// this number per thread. `launch` does this for every rank.
    pub fn set_intra_op_threads(&self) {
        tch::set_num_threads(i32::try_from(self.threads_per_rank).unwrap_or(i32::MAX));
    }

    /// Waits until this rank's GPU has done what was queued: a rank is done when its GPU is.
    fn drain(&self) -> anyhow::Result<()> {
        self.gpu.map_or(Ok(()), |gpu| gpu::synchronize(gpu.ordinal))
    }
}

impl Launcher {
    /// The launcher an environment asks for by itself: `Env` where it describes a rank of a world,
    /// otherwise `None`.
    pub fn detect(lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let set = |name| lookup(name).is_some();
        (set("RANK") && set("WORLD_SIZE")).then_some(Self::Env)
    }

    /// Whether the environment is that of a rank which the processes launcher has started: the
    /// world that it describes is then this program's own, and not another launcher's.
    pub fn has_started(lookup: impl Fn(&str) -> Option<String>) -> bool {
        lookup(env::WATCHED).is_some()
    }
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Threads => "threads",
            Self::Processes => "processes",
            Self::Env => "env",
        })
    }
}

impl FromStr for Launcher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "threads" => Ok(Self::Threads),
            "processes" => Ok(Self::Processes),
            "env" => Ok(Self::Env),
            _ => Err(format!("launcher is {text:?}, but must be threads, processes or env")),
        }
    }
}
