//! Queues in which operations run one after the other, and handles to operations in progress.

use crate::backend::Done;
use crate::error::{CommError, Result};
use crate::sync::{LIMIT, lock, wait};
use report::{Trace, Track};
use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver};
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
        let (promise, outcome) = mpsc::sync_channel(1);
        // Nobody may wait for the outcome any more.
        let job = Box::new(move || drop(promise.send(job())));
        self.queue.lock().jobs.push_back(job);
        self.queue.changed.notify_all();
        if let Err(source) = self.ensure_worker() {
            self.queue.lock().jobs.clear(); // whoever waits for one hears that it will not come
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

/// An operation in progress. Dropping it does not stop the operation, which keeps
/// its tensors alive.
#[must_use = "wait() returns when the operation is done, and says whether it failed"]
pub struct Work<T> {
    stage: Stage<T>,
    name: &'static str,
    trace: Trace,
}

enum Stage<T> {
    Ended(Result<T>),
    /// In a lane, which says how it ended.
    Running(Receiver<Result<T>>),
    /// On a GPU: its result, which may be used after its end.
    Queued(T, Box<dyn Done>),
}

impl<T> Work<T> {
    /// Work that is done already, with this result.
    pub fn done(result: T) -> Work<T> {
        Self::ended(Ok(result))
    }

    pub(crate) fn ended(result: Result<T>) -> Work<T> {
        Work { stage: Stage::Ended(result), name: "", trace: Trace::off() }
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
        let span = || self.trace.span(Track::Wait, self.name);
        match self.stage {
            Stage::Ended(result) => result,
            Stage::Running(outcome) => outcome.try_recv().unwrap_or_else(|_| {
                let _span = span();
                let broken = || "a communication thread stopped unexpectedly".to_string();
                outcome.recv().unwrap_or_else(|_| Err(CommError::Aborted { cause: broken() }))
            }),
            Stage::Queued(result, done) => {
                let _span = span();
                done.wait().map(|()| result)
            }
        }
    }
}
