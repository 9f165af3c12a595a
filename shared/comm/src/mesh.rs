//! One rank's view of the world: its place, and the groups it shares with others.

mod gather;

use crate::abort::Abort;
use crate::backend::OnGpu;
use crate::cpu::Cpu;
use crate::error::CommError;
use crate::layout::{Coords, Layout};
use crate::nccl::{Connect, Cuda, Driver, Nccl, Watch};
use crate::signals::Signals;
use crate::spec::id;
use crate::transport::Transport;
use crate::{Group, GroupSpec};
use anyhow::Context;
use report::{Chart, CommBytes, Trace};
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
    pub layout: Layout,
    pub coords: Coords,
    /// Every rank: for small things (losses to show, norms, barriers), not for bulk data.
    pub world: Group,
    /// Every rank again, without a timeout: for waits while some ranks read or write files. A
    /// rank's failure or death still ends the wait.
    pub untimed: Group,
    pub dp: Group,
    pub pp: Group,
    pub cp: Group,
    pub tp: Group,
    /// dp × cp, the ranks that hold the same weights: gradients are summed over it. With cp 1 it is
    /// the dp group itself.
    pub data: Group,
    /// This rank's recording. It starts at once if the launch asked for it, and otherwise when
    /// the trainer calls [`Trace::start`], which all ranks should do at the same step.
    pub trace: Trace,
    signals: Signals,
}

/// What the groups of one rank have in common.
pub(crate) struct Wiring {
    pub transport: Arc<dyn Transport>,
    pub abort: Abort,
    pub timeout: Duration,
    pub trace: bool,
    /// This rank's GPU, where it has one.
    pub gpu: Option<usize>,
    pub signals: Signals,
}

impl Wiring {
    pub(crate) fn watch<D: Driver>(
        &self,
        driver: D,
        rank: String,
    ) -> anyhow::Result<Arc<Watch<D>>> {
        Watch::start(driver, rank, self.abort.clone(), self.timeout)
    }
}

impl Mesh {
    /// # Errors
    /// If the rank's GPU cannot be used, or its groups cannot be connected.
    pub(crate) fn new(layout: Layout, rank: usize, wiring: &Wiring) -> anyhow::Result<Self> {
        let trace = Trace::paused(rank, layout.coords(rank).to_string());
        let watch = match wiring.gpu {
            None => None,
            Some(ordinal) => {
                let cuda = Cuda::new(ordinal).with_context(|| format!("GPU {ordinal}"))?;
                let watch = wiring.watch(cuda, layout.coords(rank).to_string())?;
                trace.set_clock(watch.driver.clock());
                Some(watch)
            }
        };
        Ok(Self::over(layout, rank, wiring, watch.as_ref(), trace)?)
    }

    /// With `watch`, every group also moves tensors on its GPU.
    pub(crate) fn over<D: Driver>(
        layout: Layout,
        rank: usize,
        wiring: &Wiring,
        watch: Option<&Arc<Watch<D>>>,
        trace: Trace,
    ) -> Result<Self, CommError> {
        let names: Arc<[String]> = layout.names().into();
        if wiring.trace {
            trace.start();
        }
        // One id serves all groups of a dimension: they partition the world, so no two ranks meet
        // in two of them. All ranks make their groups in the same order, which connecting relies
        // on.
        let group = |id: u32, name: &'static str, members: Vec<usize>, ahead: Connect| {
            let names = names.clone();
            let spec = GroupSpec { id, name, members, names };
            let (transport, trace) = (wiring.transport.clone(), trace.clone());
            let cpu = Arc::new(Cpu::new(spec, rank, transport, wiring.timeout, trace.clone()));
            let mut gpu: Option<Arc<dyn OnGpu>> = None;
            if let Some(watch) = watch {
                let nccl = Nccl::new(cpu.clone(), watch.clone(), trace.clone());
                nccl.connect(ahead)?;
                gpu = Some(Arc::new(nccl));
            }
            Ok(Group::over(cpu, gpu, wiring.abort.clone(), trace))
        };
        let members = layout.members(rank);
        // With cp > 1, gradients go over `data` and nothing goes over `dp`. (If something did, it
        // would connect then.)
        let dp_used = if layout.cp == 1 { Connect::Collectives } else { Connect::WhenUsed };
        let dp = group(id::DP, "dp", members.dp, dp_used)?;
        let (transport, abort) = (wiring.transport.clone(), wiring.abort.clone());
        let everyone = GroupSpec {
            id: id::UNTIMED,
            name: "world",
            members: members.world.clone(),
            names: names.clone(),
        };
        let untimed = Group::new(everyone, rank, transport, abort, Duration::MAX, trace.clone());
        let data = match layout.cp {
            1 => dp.clone(),
            _ => group(id::DATA, "data", members.data, Connect::Collectives)?,
        };
        Ok(Mesh {
            rank,
            layout,
            coords: layout.coords(rank),
            world: group(id::WORLD, "world", members.world, Connect::WhenUsed)?, // for control, on the CPU
            untimed,
            dp,
            // Activations go to the next stage, gradients to the one before; the gradient of a tied
            // embedding goes from one end to the other.
            pp: group(id::PP, "pp", members.pp, Connect::AndBoth)?,
            cp: group(id::CP, "cp", members.cp, Connect::AndNext)?,
            tp: group(id::TP, "tp", members.tp, Connect::Collectives)?,
            data,
            trace,
            signals: wiring.signals.clone(),
        })
    }

    /// True on rank 0, which shows progress and writes files.
    pub fn is_leader(&self) -> bool {
        self.rank == 0
    }

    /// Whether the run is to end here, between two steps, because a signal has told one of its ranks to: the
    /// same answer on all of them, so that they save the same step. A collective. False in a run that
    /// does not save, which a signal ends at once.
    pub fn ends_early(&self) -> Result<bool, CommError> {
        if !self.signals.saves() {
            return Ok(false);
        }
        let told = self.signals.told().unwrap_or(0);
        let signal = self.world.highest(told as u64)? as i32; // 0 if none has come
        if signal != 0 {
            self.signals.agree(signal);
        }
        Ok(signal != 0)
    }

    /// Bytes this rank has sent so far along each dimension. What went over `data` counts as dp,
    /// since it carries gradients; the few bytes over `world` are left out.
    pub fn comm_bytes(&self) -> CommBytes {
        let data = match self.layout.cp {
            1 => 0, // the dp group itself
            _ => self.data.bytes_sent(),
        };
        CommBytes {
            dp: self.dp.bytes_sent() + data,
            tp: self.tp.bytes_sent(),
            pp: self.pp.bytes_sent(),
            cp: self.cp.bytes_sent(),
        }
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
        self.gather_bytes(self.trace.export()).context("cannot gather the ranks' traces")
    }
}

#[cfg(test)]
mod tests {
    use crate::{Launch, Layout, launch};
    use report::Track;

    #[test]
    fn a_run_that_records_its_last_step_alone_can_draw_it() {
        let settings =
            Launch { layout: Layout { pp: 2, ..Layout::default() }, ..Launch::default() };
        let charts = launch(&settings, |mesh| {
            let steps = 3;
            for step in 1..=steps {
                mesh.world.barrier()?; // no rank is a step ahead
                if step == steps {
                    mesh.trace.start();
                }
                for micro_batch in 0..step {
                    drop(mesh.trace.span(Track::Compute, format!("forward {micro_batch}")));
                    drop(mesh.trace.span(Track::Compute, format!("backward {micro_batch}")));
                }
                drop(mesh.trace.span(Track::Compute, "optimizer"));
            }
            mesh.chart()
        });
        let charts = charts.unwrap();
        let bubble = charts[0].as_ref().and_then(|chart| chart.bubble()).unwrap();
        assert_eq!(bubble.ideal, 1.0 / 4.0); // pp 2, and 3 micro-batches in the last step
        assert!(charts[1].is_none(), "only rank 0 draws");
    }

    #[test]
    fn a_run_that_recorded_nothing_has_no_chart() {
        let settings =
            Launch { layout: Layout { pp: 2, ..Layout::default() }, ..Launch::default() };
        let charts = launch(&settings, |mesh| {
            drop(mesh.trace.span(Track::Compute, "forward 0"));
            drop(mesh.trace.span(Track::Compute, "optimizer"));
            mesh.chart()
        });
        assert!(charts.unwrap().iter().all(Option::is_none));
    }
}
