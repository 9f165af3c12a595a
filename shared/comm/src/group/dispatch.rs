//! Where an operation of a group runs: on the caller's thread, in a lane, or on a GPU.

use super::Group;
use crate::backend::{Backend, OnGpu, Queue};
use crate::error::{CommError, Result};
use crate::lane::{Lane, Work};
use crate::launch::caught;
use report::Track;
use tch::{Device, Tensor};

impl Group {
    /// What moves `tensor`, if it is on a GPU.
    fn gpu(&self, tensor: &Tensor) -> Option<&dyn OnGpu> {
        (tensor.device() != Device::Cpu).then_some(self.shared.gpu.as_deref()).flatten()
    }

    /// Starts an operation on `tensor` in its turn, and waits for it.
    pub(super) fn run<T: Send + 'static>(
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
    pub(super) fn start<T: Send + 'static>(
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
            (Ok(result), Some(done)) => Work::queued(result, done, name, self.shared.trace.clone()),
            (result, _) => Work::ready(result.map_err(|e| self.refuse(e))),
        }
    }

    /// Ends the run because of this rank's error: nobody may ever look at the error, while peers
    /// wait.
    pub(super) fn refuse(&self, error: CommError) -> CommError {
        self.shared.abort.raise(error.to_string());
        error
    }

    fn lane(&self, queue: Queue) -> &Lane {
        match queue {
            Queue::Collectives => &self.shared.collectives,
            Queue::To(peer) => &self.shared.sends[peer],
            Queue::From(peer) => &self.shared.receives[peer],
        }
    }

    fn job<T>(
        &self,
        name: &'static str,
        job: impl FnOnce(&dyn Backend) -> Result<T> + Send + 'static,
    ) -> impl FnOnce() -> Result<T> + Send + 'static {
        let (cpu, abort) = (self.shared.cpu.clone(), self.shared.abort.clone());
        move || {
            // tch panics where libtorch fails. In a lane's thread, that would end what is queued behind.
            let result = caught(|| job(&*cpu)).map_err(|why| cpu.panicked(name, &why));
            result.flatten().inspect_err(|e| abort.raise(e.to_string()))
        }
    }

    pub(super) fn run_on_cpu<T: Send + 'static>(
        &self,
        queue: Queue,
        name: &'static str,
        job: impl FnOnce(&dyn Backend) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _span = (self.size() > 1).then(|| self.shared.trace.span(Track::Wait, name));
        self.lane(queue).run(self.job(name, job)).map_err(|e| self.refuse(e))
    }

    fn start_on_cpu<T: Send + 'static>(
        &self,
        queue: Queue,
        name: &'static str,
        job: impl FnOnce(&dyn Backend) -> Result<T> + Send + 'static,
    ) -> Work<T> {
        if self.size() == 1 {
            return Work::ready(self.job(name, job)()); // nothing to wait for
        }
        let started = self.lane(queue).start(self.job(name, job), name, self.shared.trace.clone());
        started.unwrap_or_else(|e| Work::ready(Err(self.refuse(e))))
    }
}
