//! A communicator and the stream of its operations.

use super::driver::{Call, Driver};
use super::watch::{Label, Watch};
use crate::error::{CommError, Result};
use crate::lane::Done;
use report::{Mark, Trace, Track};
use std::sync::{Arc, Mutex, PoisonError};

/// Operations queued here run one after the other, beside the rank's computation and beside those
/// of other channels.
pub(crate) struct Channel<D: Driver> {
    watch: Arc<Watch<D>>,
    label: Label,
    comm: Arc<D::Comm>,
    stream: D::Stream,
    /// The end of the operation queued last.
    last: Mutex<Option<Arc<D::Event>>>,
    trace: Trace,
    track: Track,
}

impl<D: Driver> Channel<D> {
    /// `label`: whom the channel leads to; its operation is that of connecting.
    pub fn new(
        watch: Arc<Watch<D>>,
        label: Label,
        comm: Arc<D::Comm>,
        trace: Trace,
        track: Track,
    ) -> Result<Self> {
        let side = watch.driver.side();
        let stream = side.map_err(|e| watch.failed(&label, format!("{e:#}")))?;
        Ok(Self { watch, label, comm, stream, last: Mutex::new(None), trace, track })
    }

    /// Queues an operation behind whatever the calling thread has queued to compute its tensors, and
    /// returns at once. `bytes`: how many this rank sends in it.
    pub fn launch(&self, op: &'static str, bytes: u64, call: &Call) -> Result<()> {
        if let Some(cause) = self.watch.abort.cause() {
            return Err(CommError::Aborted { cause });
        }
        let label = Label { op, ..self.label.clone() };
        self.queue(&label, bytes, call).map_err(|e| self.watch.failed(&label, format!("{e:#}")))
    }

    fn queue(&self, label: &Label, bytes: u64, call: &Call) -> anyhow::Result<()> {
        let driver = &*self.watch.driver;
        // Held throughout, so that the event belongs to this call.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = driver.record(&driver.compute()?)?;
        driver.wait(&self.stream, &ready)?;
        let mark = || self.trace.enabled().then(|| driver.mark(&self.stream)).transpose();
        let start: Option<Box<dyn Mark>> = mark()?;
        driver.call(&self.comm, &self.stream, call)?;
        if let (Some(start), Some(end)) = (start, mark()?) {
            self.trace.between(self.track, label.op, start, end, bytes);
        }
        let done = Arc::new(driver.record(&self.stream)?);
        let tensors = call.tensors().into_iter().map(|t| t.shallow_clone()).collect();
        self.watch.add(label.clone(), done.clone(), tensors);
        *last = Some(done);
        Ok(())
    }

    /// What to wait for before the results of all that was queued so far are used.
    pub fn done(&self) -> Option<Queued<D>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(Queued { watch: self.watch.clone(), label: self.label.clone(), event: last })
    }
}

/// The end of a queued operation.
pub(crate) struct Queued<D: Driver> {
    watch: Arc<Watch<D>>,
    label: Label,
    event: Arc<D::Event>,
}

impl<D: Driver> Done for Queued<D> {
    /// Lets what the calling thread computes from now on start after the operation. The host goes on.
    fn wait(&self) -> Result<()> {
        if let Some(cause) = self.watch.abort.cause() {
            return Err(CommError::Aborted { cause });
        }
        let driver = &*self.watch.driver;
        let waited = driver.compute().and_then(|compute| driver.wait(&compute, &self.event));
        waited.map_err(|e| self.watch.failed(&self.label, format!("{e:#}")))
    }

    fn is_done(&self) -> bool {
        // A failure is done too: whoever waits will hear of it.
        self.watch.driver.is_done(&self.event).unwrap_or(true)
    }
}
