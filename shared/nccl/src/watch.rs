//! Watches the operations in progress on a rank's GPU: keeps their tensors, and notices their ends.

use crate::driver::{Call, Driver};
use crate::pending::{Label, Operation};
use comm::sync::{lock, start};
use comm::transport::Waited;
use comm::{Abort, CommError};
use std::collections::HashSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two looks. A failed run must end within seconds, and a look costs microseconds.
const LOOK: Duration = Duration::from_millis(100);

/// One for each rank, shared by its groups. Dropping it waits for its threads, so that they do not
/// outlive what they watch in a program that ends.
pub(crate) struct Watch<D: Driver> {
    watched: Arc<Watched<D>>,
    threads: Vec<JoinHandle<()>>,
}

pub(crate) struct Watched<D: Driver> {
    pub driver: Arc<D>,
    pub abort: Abort,
    /// Coordinates of this rank.
    pub rank: String,
    timeout: Duration,
    /// For how long this process has been running, in milliseconds: kept by [`Watched::time`].
    ran: AtomicU64,
    state: Mutex<State<D>>,
    closed: AtomicBool,
}

struct State<D: Driver> {
    under_way: Vec<Arc<Operation<D>>>,
    comms: Vec<(Arc<D::Comm>, Label)>,
}

impl<D: Driver> Watch<D> {
    /// # Errors
    /// If there are no threads for it.
    pub fn start(
        driver: D,
        rank: String,
        abort: Abort,
        timeout: Duration,
    ) -> anyhow::Result<Arc<Self>> {
        let state = Mutex::new(State { under_way: vec![], comms: vec![] });
        let (driver, closed) = (Arc::new(driver), AtomicBool::new(false));
        let ran = AtomicU64::new(0);
        let watched = Arc::new(Watched { driver, abort, rank, timeout, ran, state, closed });
        let mut watch = Self { watched, threads: vec![] };
        let jobs: [fn(&Watched<D>); 2] = [Watched::tend, Watched::time];
        for job in jobs {
            let watched = watch.watched.clone();
            watch.threads.push(start("watch a GPU", move || job(&watched))?);
        }
        Ok(Arc::new(watch))
    }
}

impl<D: Driver> Deref for Watch<D> {
    type Target = Watched<D>;

    fn deref(&self) -> &Watched<D> {
        &self.watched
    }
}

impl<D: Driver> Drop for Watch<D> {
    fn drop(&mut self) {
        self.closed.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let _ = thread.join(); // one that panicked has nothing to add
        }
    }
}

impl<D: Driver> Watched<D> {
    /// Watches an operation from now on: from before its call, which may wait for peers too.
    pub fn begin(&self, label: Label, call: Option<&Call>) -> Arc<Operation<D>> {
        let since = Duration::from_millis(self.ran.load(Relaxed));
        let operation = Arc::new(Operation::new(label, call, since));
        self.lock().under_way.push(operation.clone());
        operation
    }

    /// Stops watching an operation, whatever has become of it.
    pub fn forget(&self, operation: &Arc<Operation<D>>) {
        self.lock().under_way.retain(|other| !Arc::ptr_eq(other, operation));
    }

    /// Runs `init`, and watches it while it waits for peers; from then on watches the communicator.
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

    /// Lets go of what is done, and finds what has failed.
    pub(crate) fn look(&self) -> Result<(), CommError> {
        // The GPU is asked without holding the lock, so that starting an operation
        // never waits for it.
        let under_way = self.lock().under_way.clone();
        let mut done = vec![];
        let mut failed = None;
        for operation in under_way {
            match operation.is_done(&self.driver) {
                Ok(true) => {
                    operation.release();
                    done.push(operation);
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

    /// `label` has failed on this rank.
    pub fn failed(&self, label: &Label, detail: String) -> CommError {
        CommError::Failed {
            rank: self.rank.clone(),
            group: label.group.to_owned(),
            op: label.op.to_owned(),
            detail,
        }
    }

    /// Asks the GPU, as long as the run goes on without a failure.
    fn tend(&self) {
        if let Err(error) = self.driver.enter() {
            self.abort.raise(format!("rank {} cannot use its GPU: {error:#}", self.rank));
        }
        self.repeat(Self::look);
        if self.abort.is_raised() {
            self.give_up();
        }
    }

    /// Looks at the clock. It has a thread of its own, since one that asks the GPU may have to wait
    /// behind the very operation that never ends.
    fn time(&self) {
        let waited = Waited::from_now();
        self.repeat(|watched| {
            let now = waited.so_far();
            watched.ran.store(now.as_millis() as u64, Relaxed);
            let state = watched.lock();
            let late =
                state.under_way.iter().find(|op| now.saturating_sub(op.since) > watched.timeout);
            late.map_or(Ok(()), |operation| Err(watched.late(&operation.label)))
        });
    }

    fn repeat(&self, look: impl Fn(&Self) -> Result<(), CommError>) {
        while !self.closed.load(Relaxed) && !self.abort.is_raised() {
            match look(self) {
                Ok(()) => thread::park_timeout(LOOK),
                Err(error) => self.abort.raise(error.to_string()),
            }
        }
    }

    /// Aborts every communicator, so that no thread waits for the GPU any longer.
    fn give_up(&self) {
        let comms: Vec<_> = self.lock().comms.iter().map(|(comm, _)| comm.clone()).collect();
        self.driver.abort(&comms);
        // Never dropped: that would abort them again, one by one, and might wait for ever.
        std::mem::forget(comms);
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        lock(&self.state)
    }
}
