//! Where an operation of a group runs: on the caller's thread, in a lane, or on a GPU.

use crate::abort::Abort;
use crate::backend::{Backend, OnGpu, Queue};
use crate::cpu::Cpu;
use crate::error::{CommError, Result};
use crate::lane::{Lane, Work};
use report::{Trace, Track};
use std::sync::Arc;
use tch::{Device, Tensor};

/// A group's backends, and a lane for each of its queues.
pub(crate) struct Dispatch {
    /// For tensors on the CPU.
    pub cpu: Arc<Cpu>,
    /// For those on GPUs.
    pub gpu: Option<Arc<dyn OnGpu>>,
    abort: Abort,
    trace: Trace,
    collectives: Lane,
    /// By peer.
    sends: Vec<Lane>,
    receives: Vec<Lane>,
}

impl Dispatch {
    pub fn new(cpu: Arc<Cpu>, gpu: Option<Arc<dyn OnGpu>>, abort: Abort, trace: Trace) -> Self {
        let name = cpu.spec().name;
        let lanes = |what: &str| {
            let lane = |peer| Lane::new(format!("{name} {what} {peer}"));
            (0..cpu.size()).map(lane).collect()
        };
        Self {
            collectives: Lane::new(format!("{name} collectives")),
            sends: lanes("to"),
            receives: lanes("from"),
            cpu,
            gpu,
            abort,
            trace,
        }
    }

    /// What moves `tensor`, if it is on a GPU.
    fn gpu(&self, tensor: &Tensor) -> Option<&dyn OnGpu> {
        (tensor.device() != Device::Cpu).then_some(self.gpu.as_deref()).flatten()
    }

    /// Starts an operation on `tensor` in its turn, and waits for it.
    pub fn run<T: Send + 'static>(
        &self,
        queue: Queue,
        name: &'static str,
        tensor: &Tensor,
        job: impl FnOnce(&dyn Backend, &Tensor) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.gpu(tensor).is_some() {
            return self.start(queue, name, tensor, job).wait();
        }
        let tensor = tensor.shallow_clone();
        self.run_on_cpu(queue, name, move |b| job(b, &tensor))
    }

    /// Starts an operation on `tensor` in its turn.
    pub fn start<T: Send + 'static>(
        &self,
        queue: Queue,
        name: &'static str,
        tensor: &Tensor,
        job: impl FnOnce(&dyn Backend, &Tensor) -> Result<T> + Send + 'static,
    ) -> Work<T> {
        let Some(gpu) = self.gpu(tensor) else {
            let tensor = tensor.shallow_clone();
            return self.start_on_cpu(queue, name, move |b| job(b, &tensor));
        };
        match (job(gpu, tensor), gpu.done(queue)) {
            (Ok(result), Some(done)) => Work::queued(result, done, name, self.trace.clone()),
            (result, _) => Work::ended(result.map_err(|e| self.refuse(e))),
        }
    }

    /// Ends the run because of this rank's error: nobody may ever look at the error,
    /// while peers wait.
    pub fn refuse(&self, error: CommError) -> CommError {
        self.abort.raise(error.to_string());
        error
    }

    fn lane(&self, queue: Queue) -> &Lane {
        match queue {
            Queue::Collectives => &self.collectives,
            Queue::To(peer) => &self.sends[peer],
            Queue::From(peer) => &self.receives[peer],
        }
    }

    /// What a lane runs: `job`, whose failure ends the run.
    fn job<T>(
        &self,
        name: &'static str,
        job: impl FnOnce(&dyn Backend) -> Result<T> + Send + 'static,
    ) -> impl FnOnce() -> Result<T> + Send + 'static {
        let (cpu, abort) = (self.cpu.clone(), self.abort.clone());
        move || {
            // tch panics where libtorch fails. In a lane's thread, that would end what
            // is queued behind.
            let result = report::catch(|| job(&*cpu));
            let result = result.map_err(|panic| cpu.panicked(name, &panic.text));
            result.flatten().inspect_err(|e| abort.raise(e.to_string()))
        }
    }

    /// Starts an operation that takes no tensor, and waits for it.
    pub fn run_on_cpu<T: Send + 'static>(
        &self,
        queue: Queue,
        name: &'static str,
        job: impl FnOnce(&dyn Backend) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _span = (self.cpu.size() > 1).then(|| self.trace.span(Track::Wait, name));
        self.lane(queue).run(self.job(name, job)).map_err(|e| self.refuse(e))
    }

    fn start_on_cpu<T: Send + 'static>(
        &self,
        queue: Queue,
        name: &'static str,
        job: impl FnOnce(&dyn Backend) -> Result<T> + Send + 'static,
    ) -> Work<T> {
        if self.cpu.size() == 1 {
            return Work::ended(self.job(name, job)()); // nothing to wait for
        }
        let started = self.lane(queue).start(self.job(name, job), name, self.trace.clone());
        started.unwrap_or_else(|e| Work::ended(Err(self.refuse(e))))
    }
}
