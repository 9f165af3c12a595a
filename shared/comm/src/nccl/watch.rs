//! Operations under way on a rank's GPU: their tensors are kept, and their ends are watched for.

use super::driver::Driver;
use crate::abort::Abort;
use crate::error::CommError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};
use tch::Tensor;

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
    under_way: Vec<UnderWay<D>>,
    comms: Vec<(Arc<D::Comm>, Label)>,
}

/// What an operation is called in errors.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub op: &'static str,
    pub group: &'static str,
    /// Whom it is with, by coordinates.
    pub peer: String,
}

struct UnderWay<D: Driver> {
    label: Label,
    since: Instant,
    /// `None` while the host itself waits for peers, to make a communicator.
    done: Option<Arc<D::Event>>,
    /// Alive as long as the GPU may touch them.
    _tensors: Vec<Tensor>,
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

    /// Keeps `tensors` until the GPU has passed `done`, which is expected within the time allowed.
    pub fn add(&self, label: Label, done: Arc<D::Event>, tensors: Vec<Tensor>) {
        let mut state = self.lock();
        // What is done may be freed; a failure is the next look's business.
        state.under_way.retain(|op| !op.is_done(&*self.driver).unwrap_or(false));
        let (since, done) = (Instant::now(), Some(done));
        state.under_way.push(UnderWay { label, since, done, _tensors: tensors });
    }

    /// Runs `init`, which waits for peers, under the same eyes; keeps the communicator in view.
    pub fn connect(
        &self,
        label: &Label,
        init: impl FnOnce() -> Result<D::Comm, CommError>,
    ) -> Result<Arc<D::Comm>, CommError> {
        let since = Instant::now();
        let waiting = UnderWay { label: label.clone(), since, done: None, _tensors: vec![] };
        self.lock().under_way.push(waiting);
        let comm = init().map(Arc::new);
        let mut state = self.lock();
        state.under_way.retain(|op| op.done.is_some() || op.since != since);
        let comm = comm?;
        state.comms.push((comm.clone(), label.clone()));
        Ok(comm)
    }

    /// Tensors that are kept for operations under way, counted; for tests.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.lock().under_way.iter().map(|op| op._tensors.len()).sum()
    }

    /// Lets go of what is done, and finds what has failed or takes too long.
    pub(super) fn look(&self) -> Result<(), CommError> {
        let mut state = self.lock();
        let mut failed = None;
        state.under_way.retain(|op| match op.is_done(&*self.driver) {
            Ok(done) => {
                if !done && op.since.elapsed() > self.timeout {
                    failed.get_or_insert_with(|| self.late(&op.label));
                }
                !done
            }
            Err(error) => {
                failed.get_or_insert_with(|| self.failed(&op.label, format!("{error:#}")));
                true
            }
        });
        for (comm, label) in &state.comms {
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
        for (comm, _) in &self.lock().comms {
            self.driver.abort(comm);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Driver> UnderWay<D> {
    fn is_done(&self, driver: &D) -> anyhow::Result<bool> {
        self.done.as_ref().map_or(Ok(false), |done| driver.is_done(done))
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
