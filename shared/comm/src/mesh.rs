//! One rank's view of the world: its place, and the groups it shares with others.

use crate::abort::Abort;
use crate::backend::OnGpu;
use crate::cpu::Cpu;
use crate::error::CommError;
use crate::gather;
use crate::group::Group;
use crate::layout::{Coords, GROUPS, GroupSpec, Layout};
use crate::transport::Transport;
use anyhow::Context;
use report::{Chart, CommBytes, Trace};
use serde::{Serialize, de::DeserializeOwned};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Columns of a chart in the terminal.
const CHART_WIDTH: usize = 100;

/// Everything a rank needs to know of the others. All its groups are made once, when the world
/// starts; a dimension of size 1 has a group of one, whose operations cost nothing.
pub struct Mesh {
    /// This rank's number in the world.
    pub rank: usize,
    /// The shape of the world.
    pub layout: Layout,
    /// This rank's place in it.
    pub coords: Coords,
    /// Every rank: for small things (losses to show, norms, barriers), not for bulk data.
    pub world: Group,
    /// Every rank again, without a timeout: for waits while some ranks read or write files. A
    /// rank's failure or death still ends the wait.
    pub untimed: Group,
    /// The ranks that have the same part of the model and of each sequence: replicas.
    pub dp: Group,
    /// The stages that the activations of this rank's sequences pass.
    pub pp: Group,
    /// The ranks that share this rank's sequences.
    pub cp: Group,
    /// The ranks that share this rank's matrices.
    pub tp: Group,
    /// dp × cp, the ranks that hold the same weights: gradients are summed over it. With cp 1 it is
    /// the dp group itself.
    pub dp_cp: Group,
    /// This rank's recording. It starts at once if the launch asked for it, and otherwise when
    /// the trainer calls [`Trace::start`], which all ranks should do at the same step.
    pub trace: Trace,
    /// Those whose bytes metrics count, each with the name under which they do.
    counted: Vec<(&'static str, Group)>,
    interrupts: Arc<dyn Interrupts>,
}

/// What the groups of one rank have in common.
pub struct Wiring {
    /// Moves their bytes.
    pub transport: Arc<dyn Transport>,
    /// Ends their waits.
    pub abort: Abort,
    /// The longest wait for a peer.
    pub timeout: Duration,
    /// Records what they do.
    pub trace: Trace,
    /// Where the rank has a GPU: what moves tensors on it.
    pub gpu: Option<Arc<dyn GpuBackends>>,
    /// What may tell the run to end.
    pub interrupts: Arc<dyn Interrupts>,
}

/// Makes backends for tensors on this rank's GPU. The crate `nccl` has one; worlds on
/// CPUs have none.
pub trait GpuBackends: Send + Sync {
    /// The backend of the group that `cpu` is for tensors on the CPU, connected as far as `ahead`
    /// says. All ranks make theirs in the same order.
    ///
    /// # Errors
    /// If the members' GPUs cannot be connected.
    fn make(
        &self,
        cpu: Arc<Cpu>,
        ahead: Connect,
        trace: Trace,
    ) -> Result<Arc<dyn OnGpu>, CommError>;
}

/// What a group will need, and connects before anything is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// Nothing for certain: it connects when it is first used.
    WhenUsed,
    /// Collectives.
    Collectives,
    /// And messages from each rank to the next.
    AndNext,
    /// And back.
    AndBoth,
}

/// What may tell a run to end before its last step: signals, for instance. The crate
/// `launch` has it.
pub trait Interrupts: Send + Sync {
    /// Whether a run that is told to end saves first.
    fn saves(&self) -> bool;
    /// The number of the signal that this process has been told to end by.
    fn told(&self) -> Option<i32>;
    /// All ranks end between two steps because of `signal`.
    fn agree(&self, signal: i32);
}

impl Mesh {
    /// The mesh of world rank `rank`.
    ///
    /// # Errors
    /// If the groups' GPUs cannot be connected.
    pub fn new(layout: Layout, rank: usize, wiring: Wiring) -> Result<Self, CommError> {
        let Wiring { transport, abort, timeout, trace, gpu, interrupts } = wiring;
        let mut counted = Vec::new();
        // All ranks make their groups in the same order, which connecting relies on.
        let mut group = |name: &str, ahead: Connect| -> Result<Group, CommError> {
            let (spec, transport) = (layout.group(name, rank), transport.clone());
            let counted_as = GROUPS[spec.id as usize].counted_as;
            let cpu = Arc::new(Cpu::new(spec, rank, transport, timeout, trace.clone()));
            let make = |gpu: &Arc<dyn GpuBackends>| gpu.make(cpu.clone(), ahead, trace.clone());
            let gpu = gpu.as_ref().map(make).transpose()?;
            let group = Group::over(cpu, gpu, abort.clone(), trace.clone());
            counted.extend(counted_as.map(|name| (name, group.clone())));
            Ok(group)
        };
        // With cp > 1, gradients go over `dp_cp` and nothing goes over `dp`. (If something did, it
        // would connect then.)
        let sums = if layout.cp == 1 { Connect::Collectives } else { Connect::WhenUsed };
        let dp = group("dp", sums)?;
        let again = GroupSpec { id: GROUPS.len() as u32, ..layout.group("world", rank) };
        Ok(Mesh {
            rank,
            layout,
            coords: layout.coords(rank),
            world: group("world", Connect::WhenUsed)?, // for control, on the CPU
            dp_cp: match layout.cp {
                1 => dp.clone(),
                _ => group("dp_cp", Connect::Collectives)?,
            },
            dp,
            // Activations go to the next stage, gradients to the one before; the gradient of a tied
            // embedding goes from one end to the other.
            pp: group("pp", Connect::AndBoth)?,
            cp: group("cp", Connect::AndNext)?,
            tp: group("tp", Connect::Collectives)?,
            untimed: Group::new(again, rank, transport, abort, Duration::MAX, trace.clone()),
            trace,
            counted,
            interrupts,
        })
    }

    /// True on rank 0, which shows progress and writes files.
    pub fn is_leader(&self) -> bool {
        self.rank == 0
    }

    /// Whether the run is to end here, between two steps, because a signal has told one of its
    /// ranks to: the same answer on all of them, so that they save the same step. A collective.
    /// False in a run that does not save, which a signal ends at once.
    pub fn ends_early(&self) -> Result<bool, CommError> {
        if !self.interrupts.saves() {
            return Ok(false);
        }
        let told = self.interrupts.told().unwrap_or(0);
        let signal = self.world.highest(told as u64)? as i32; // 0 if none has come
        if signal != 0 {
            self.interrupts.agree(signal);
        }
        Ok(signal != 0)
    }

    /// Bytes this rank has sent so far, by the names of its groups. What went over `dp_cp` counts
    /// as dp, since it carries gradients; the few bytes over `world` are left out.
    pub fn comm_bytes(&self) -> CommBytes {
        self.counted.iter().map(|(name, group)| (*name, group.bytes_sent())).collect()
    }

    /// On rank 0 the values of all ranks that give one, in rank order; nothing elsewhere. A
    /// collective, for control and not for the bulk; it waits as [`Mesh::untimed`] does.
    ///
    /// # Errors
    /// If a value cannot be encoded, or a rank is lost.
    pub fn gather<T>(&self, mine: Option<T>) -> anyhow::Result<Vec<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        gather::gather(&self.untimed, mine)
    }

    /// Gathers every rank's trace on rank 0, which writes it to `path` and its chart beside it. A
    /// collective: all ranks call it, and what they record afterwards is not in the file.
    pub fn write_trace(&self, path: &Path) -> anyhow::Result<()> {
        let traces = self.gather_traces()?;
        if self.is_leader() {
            report::write_trace(path, &traces)?;
        }
        Ok(self.untimed.barrier()?)
    }

    /// Gathers every rank's trace on rank 0, which draws the last training step in it; `None` where
    /// it holds no whole one, and on the other ranks. A collective: all ranks call it.
    pub fn chart(&self) -> anyhow::Result<Option<Chart>> {
        let traces = self.gather_traces()?;
        if self.is_leader() { Chart::read(&traces) } else { Ok(None) }
    }

    /// Prints [`Mesh::chart`] on rank 0. A collective: all ranks call it.
    pub fn show_chart(&self) -> anyhow::Result<()> {
        let Some(chart) = self.chart()? else { return Ok(()) };
        writeln!(std::io::stdout(), "\n{}", chart.text(CHART_WIDTH)).context("cannot print")
    }

    fn gather_traces(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        gather::gather_bytes(&self.untimed, self.trace.export())
            .context("cannot gather the ranks' traces")
    }
}
