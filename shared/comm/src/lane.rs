//! Queues in which operations run one after the other, and handles to operations in progress.

use crate::error::{CommError, Result};
use crate::sync::{lock, wait};
use crate::threads::LIMIT;
use report::{Trace, Track};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// Runs operations in the order in which they come. One that may block its caller runs on the
/// caller's thread if nothing is ahead of it; all others run on the lane's own thread, which is
/// started when it is first needed. Dropping a lane waits for what is still in it.
pub(crate) struct Lane {
    name: String,
    queue: Arc<Queue>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    busy: bool,
    closed: bool,
}

impl Lane {
    pub fn new(name: String) -> Lane {
        Lane { name, queue: Arc::default(), worker: Mutex::default() }
    }

    /// Runs `job` in its turn and returns what it returns.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut state = self.queue.lock();
        if state.busy || !state.jobs.is_empty() {
            drop(state);
            return self.start(job, "", Trace::off())?.wait();
        }
        state.busy = true;
        drop(state);
        let _turn = Turn(&self.queue);
        job()
    }

    /// Queues `job` and returns at once.
    ///
    /// # Errors
    /// If there is no thread to run it.
    pub fn start<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T> + Send + 'static,
        name: &'static str,
        trace: Trace,
    ) -> Result<Work<T>> {
        let outcome = Arc::new(Outcome::default());
        let promise = Promise(outcome.clone());
        let job = Box::new(move || promise.keep(job()));
        self.queue.lock().jobs.push_back(job);
        self.queue.changed.notify_all();
        if let Err(source) = self.ensure_worker() {
            self.queue.lock().jobs.clear(); // breaks their promises
            let what = format!("cannot start the thread for '{}' ({LIMIT})", self.name);
            return Err(CommError::Setup { what, source });
        }
        Ok(Work { stage: Stage::Running(outcome), name, trace })
    }

    fn ensure_worker(&self) -> std::io::Result<()> {
        let mut worker = lock(&self.worker);
        if worker.is_none() {
            let queue = self.queue.clone();
            let thread = thread::Builder::new().name(self.name.clone());
            *worker = Some(thread.spawn(move || queue.work())?);
        }
        Ok(())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        let worker = lock(&self.worker).take();
        // A rank that panics must not wait for peers that may be waiting for it.
        if let Some(worker) = worker
            && !thread::panicking()
        {
            let _ = worker.join(); // it runs no job that panics
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The lane's own thread.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if !state.busy
                && let Some(job) = state.jobs.pop_front()
            {
                state.busy = true;
                drop(state);
                let turn = Turn(self);
                job();
                drop(turn);
                state = self.lock();
            } else if state.closed && state.jobs.is_empty() {
                return;
            } else {
                state = wait(&self.changed, state);
            }
        }
    }
}

/// Held while a job runs. Dropped even if the job panics, so that the next one can run.
struct Turn<'a>(&'a Queue);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().busy = false;
        self.0.changed.notify_all();
    }
}

/// The end of an operation that is queued on a GPU.
pub(crate) trait Done: Send {
    /// Makes what the calling thread queues from now on start after it; the host does not wait.
    fn wait(&self) -> Result<()>;
}

/// An operation in progress. Dropping it does not stop the operation, which keeps its tensors
/// alive.
#[must_use = "wait() returns when the operation is done, and says whether it failed"]
pub struct Work<T> {
    stage: Stage<T>,
    name: &'static str,
    trace: Trace,
}

enum Stage<T> {
    /// In a lane; its outcome is still to come, or has come.
    Running(Arc<Outcome<T>>),
    /// On a GPU: its result, which may be used after its end.
    Queued(T, Box<dyn Done>),
}

impl<T> Work<T> {
    /// Work that is done already, with this result.
    pub fn done(result: T) -> Work<T> {
        Self::ready(Ok(result))
    }

    pub(crate) fn ready(result: Result<T>) -> Work<T> {
        let outcome = Arc::new(Outcome::default());
        Promise(outcome.clone()).keep(result);
        Work { stage: Stage::Running(outcome), name: "", trace: Trace::off() }
    }

    pub(crate) fn queued(
        result: T,
        done: Box<dyn Done>,
        name: &'static str,
        trace: Trace,
    ) -> Work<T> {
        Work { stage: Stage::Queued(result, done), name, trace }
    }

    /// Waits until the operation is done and returns what it returned. The results of an operation
    /// on a GPU are there for whatever the calling thread computes on that GPU from now on; the
    /// thread itself does not wait.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn wait(self) -> Result<T> {
        let outcome = match self.stage {
            Stage::Running(outcome) => outcome,
            Stage::Queued(result, done) => {
                let _span = self.trace.span(Track::Wait, self.name);
                return done.wait().map(|()| result);
            }
        };
        let mut result = outcome.lock();
        let mut span = None;
        loop {
            if let Some(result) = result.take() {
                return result;
            }
            span.get_or_insert_with(|| self.trace.span(Track::Wait, self.name));
            result = wait(&outcome.done, result);
        }
    }
}

struct Outcome<T> {
    result: Mutex<Option<Result<T>>>,
    done: Condvar,
}

impl<T> Default for Outcome<T> {
    fn default() -> Self {
        Outcome { result: Mutex::new(None), done: Condvar::new() }
    }
}

impl<T> Outcome<T> {
    fn lock(&self) -> MutexGuard<'_, Option<Result<T>>> {
        lock(&self.result)
    }
}

/// The obligation to say how an operation ended, kept even by one that panics.
struct Promise<T>(Arc<Outcome<T>>);

impl<T> Promise<T> {
    fn keep(self, result: Result<T>) {
        *self.0.lock() = Some(result);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let cause = "a communication thread stopped unexpectedly".to_string();
        let broken = || Err(CommError::Aborted { cause });
        self.0.lock().get_or_insert_with(broken);
        self.0.done.notify_all();
    }
}
