//! Operations under way on a rank's GPU: their tensors are kept, and their ends are watched for.

use super::driver::{Call, Driver};
use super::pending::{Label, Operation};
use crate::abort::Abort;
use crate::error::CommError;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

/// Between two looks. A failed run must end within seconds, and a look costs microseconds.
const LOOK: Duration = Duration::from_millis(100);

/// One for each rank, shared by its groups.
pub(crate) struct Watch<D: Driver> {
    pub driver: Arc<D>,
    pub abort: Abort,
    /// Coordinates of this rank.
    pub rank: String,
    timeout: Duration,
    state: Mutex<State<D>>,
}

struct State<D: Driver> {
    under_way: Vec<Arc<Operation<D>>>,
    comms: Vec<(Arc<D::Comm>, Label)>,
}

impl<D: Driver> Watch<D> {
    /// Starts to watch. Ends with the last handle.
    pub fn start(driver: D, rank: String, abort: Abort, timeout: Duration) -> Arc<Self> {
        let state = Mutex::new(State { under_way: vec![], comms: vec![] });
        let watch = Arc::new(Self { driver: Arc::new(driver), abort, rank, timeout, state });
        let watched = Arc::downgrade(&watch);
        thread::spawn(move || look_after(&watched));
        watch
    }

    /// Looks after an operation from now on, before its call: that may wait for peers too.
    pub fn begin(&self, label: Label, call: Option<&Call>) -> Arc<Operation<D>> {
        let operation = Arc::new(Operation::new(label, call));
        self.lock().under_way.push(operation.clone());
        operation
    }

    /// Looks after it no longer, whatever has become of it.
    pub fn forget(&self, operation: &Arc<Operation<D>>) {
        self.lock().under_way.retain(|other| !Arc::ptr_eq(other, operation));
    }

    /// Runs `init`, which waits for peers, under the same eyes; keeps the communicator in view.
    pub fn connect(
        &self,
        label: &Label,
        init: impl FnOnce() -> Result<D::Comm, CommError>,
    ) -> Result<Arc<D::Comm>, CommError> {
        let connecting = self.begin(label.clone(), None);
        let comm = init().map(Arc::new);
        self.forget(&connecting);
        let comm = comm?;
        self.lock().comms.push((comm.clone(), label.clone()));
        Ok(comm)
    }

    /// Tensors that are kept for operations under way, counted; for tests.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.lock().under_way.iter().map(|operation| operation.kept()).sum()
    }

    /// Lets go of what is done, and finds what has failed or takes too long.
    pub(super) fn look(&self) -> Result<(), CommError> {
        // The GPU is asked without the lock, so that nobody who starts an operation waits for it.
        let under_way = self.lock().under_way.clone();
        let mut done = vec![];
        let mut failed = None;
        for operation in under_way {
            match operation.is_done(&self.driver) {
                Ok(true) => {
                    operation.release();
                    done.push(operation);
                }
                Ok(false) if operation.since.elapsed() > self.timeout => {
                    failed.get_or_insert_with(|| self.late(&operation.label));
                }
                Ok(false) => {}
                Err(error) => {
                    let label = &operation.label;
                    failed.get_or_insert_with(|| self.failed(label, format!("{error:#}")));
                }
            }
        }
        let done: HashSet<_> = done.iter().map(Arc::as_ptr).collect();
        self.lock().under_way.retain(|operation| !done.contains(&Arc::as_ptr(operation)));
        let comms = self.lock().comms.clone();
        for (comm, label) in &comms {
            if let Some(detail) = self.driver.failure(comm) {
                failed.get_or_insert_with(|| self.failed(label, detail));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn late(&self, label: &Label) -> CommError {
        CommError::Timeout {
            rank: self.rank.clone(),
            group: label.group.to_owned(),
            op: label.op.to_owned(),
            peer: label.peer.clone(),
            seconds: self.timeout.as_secs_f64(),
        }
    }

    pub fn failed(&self, label: &Label, detail: String) -> CommError {
        CommError::Gpu {
            rank: self.rank.clone(),
            group: label.group.to_owned(),
            op: label.op.to_owned(),
            detail,
        }
    }

    /// Ends every communicator, so that whoever waits for the GPU is let go.
    fn give_up(&self) {
        let comms = self.lock().comms.clone();
        for (comm, _) in &comms {
            self.driver.abort(comm);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn look_after<D: Driver>(watched: &Weak<Watch<D>>) {
    if let Some(watch) = watched.upgrade()
        && let Err(error) = watch.driver.enter()
    {
        watch.abort.raise(format!("rank {} cannot use its GPU: {error:#}", watch.rank));
    }
    while let Some(watch) = watched.upgrade() {
        let abort = watch.abort.clone();
        if let Err(error) = watch.look() {
            abort.raise(error.to_string());
        }
        if abort.is_raised() {
            return watch.give_up();
        }
        drop(watch); // so that it can end while this sleeps
        abort.wait(LOOK);
    }
}
