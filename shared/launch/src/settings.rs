//! How to start a world.

use crate::env;
use crate::signals::Signals;
use comm::transport::Transport;
use comm::{Abort, Layout, Mesh, Wiring};
use report::Trace;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
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
    /// the world in the environment; see [`EnvWorld`](crate::EnvWorld).
    Env,
}

/// How to start a world.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The ranks.
    pub layout: Layout,
    /// What else must be the same on all ranks, each as a phrase such as `lr 0.001`, always in the
    /// same order. Ranks that are started one by one compare them when they meet; if one differs,
    /// the run ends with a sentence that has both phrases.
    pub agreement: Vec<String>,
    /// What they are.
    pub launcher: Launcher,
    /// Threads libtorch may use inside an operation, on each rank. More than one pays only on an
    /// idle machine: the threads spin for each other at every operation, and on a busy one each
    /// spin costs a time slice.
    pub threads_per_rank: usize,
    /// Longest wait for another rank: to join, within an operation, and to finish.
    /// `Duration::MAX` is no limit.
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
pub(crate) const GRACE: Duration = Duration::from_secs(3);

impl Launch {
    /// Tells libtorch how many threads to use inside the operations of the calling thread; it keeps
    /// this number per thread. `launch` does this for every rank.
    pub fn set_intra_op_threads(&self) {
        tch::set_num_threads(i32::try_from(self.threads_per_rank).unwrap_or(i32::MAX));
    }

    /// The mesh of `rank`, which is the calling thread, with its GPU.
    pub(crate) fn mesh(
        &self,
        rank: usize,
        transport: Arc<dyn Transport>,
        abort: &Abort,
    ) -> anyhow::Result<Mesh> {
        let (name, timeout) = (self.layout.coords(rank).to_string(), self.timeout);
        let (trace, abort) = (Trace::paused(rank, name.clone()), abort.clone());
        let open = |gpu: Gpu| nccl::open(gpu.ordinal, name, abort.clone(), timeout, &trace);
        let gpu = self.gpu.map(open).transpose()?;
        if self.trace {
            trace.start();
        }
        let interrupts = Arc::new(self.signals.clone());
        let wiring = Wiring { transport, abort, timeout, trace, gpu, interrupts };
        Ok(Mesh::new(self.layout, rank, wiring)?)
    }

    /// Waits until this rank's GPU has done what was queued: a rank is done when its GPU is.
    pub(crate) fn drain(&self) -> anyhow::Result<()> {
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
