//! A communicator and the stream of its operations.

use crate::driver::{Call, Driver};
use crate::pending::{Label, Operation};
use crate::watch::Watch;
use anyhow::{bail, ensure};
use comm::Result;
use comm::backend::Done;
use comm::sync::lock;
use report::{Mark, Trace, Track};
use std::sync::{Arc, Mutex};

/// Operations queued here run one after the other, beside the rank's computation and beside those
/// of other channels.
pub(crate) struct Channel<D: Driver> {
    watch: Arc<Watch<D>>,
    label: Label,
    comm: Arc<D::Comm>,
    stream: D::Stream,
    /// The operation queued last.
    last: Mutex<Option<Arc<Operation<D>>>>,
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

    /// Queues an operation behind whatever the calling thread has queued to compute its tensors,
    /// and returns at once. `bytes`: how many this rank sends in it.
    pub fn launch(&self, op: &'static str, bytes: u64, call: &Call) -> Result<()> {
        self.watch.abort.check()?;
        // Held throughout, so that operations end in the order in which they begin.
        let mut last = lock(&self.last);
        let operation = self.watch.begin(Label { op, ..self.label.clone() }, Some(call));
        if let Err(error) = self.queue(&operation, bytes, call) {
            self.watch.forget(&operation);
            self.watch.abort.check()?; // it failed because the communicator was given up
            return Err(self.watch.failed(&operation.label, format!("{error:#}")));
        }
        *last = Some(operation);
        Ok(())
    }

    fn queue(&self, operation: &Operation<D>, bytes: u64, call: &Call) -> anyhow::Result<()> {
        let driver = &*self.watch.driver;
        let ready = driver.record(&driver.compute()?)?;
        driver.wait(&self.stream, &ready)?;
        let mark = || self.trace.enabled().then(|| driver.mark(&self.stream)).transpose();
        let start: Option<Box<dyn Mark>> = mark()?;
        driver.call(&self.comm, &self.stream, call)?;
        if let (Some(start), Some(end)) = (start, mark()?) {
            self.trace.between(self.track.clone(), operation.label.op, start, end, bytes);
        }
        let end = driver.record(&self.stream)?;
        ensure!(operation.end.set(end).is_ok(), "an operation was queued twice");
        Ok(())
    }

    /// What to wait for before using the results of everything queued so far.
    pub fn done(&self) -> Option<Queued<D>> {
        let last = lock(&self.last).clone()?;
        Some(Queued { watch: self.watch.clone(), operation: last })
    }
}

/// A queued operation, and all that was queued before it.
pub(crate) struct Queued<D: Driver> {
    watch: Arc<Watch<D>>,
    operation: Arc<Operation<D>>,
}

impl<D: Driver> Done for Queued<D> {
    /// Makes what the calling thread computes from now on start after the operation. The
    /// host does not wait.
    fn wait(&self) -> Result<()> {
        self.watch.abort.check()?;
        let (driver, operation) = (&*self.watch.driver, &self.operation);
        let wait = || match operation.end.get() {
            Some(end) => driver.wait(&driver.compute()?, end),
            None => bail!("it was never queued"),
        };
        wait().map_err(|e| self.watch.failed(&operation.label, format!("{e:#}")))?;
        operation.release();
        Ok(())
    }
}
