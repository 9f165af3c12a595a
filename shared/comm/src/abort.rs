//! The signal that ends a run, with its cause.

use crate::error::CommError;
use crate::sync::{lock, wait_timeout};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Shared by everything that belongs to one rank or, with threads, to one world.
///
/// Raised once, with the cause in one sentence; whoever waits for another rank checks it and gives
/// up. A clone is another handle to the same signal.
#[derive(Clone, Default)]
pub struct Abort(Arc<Inner>);

#[derive(Default)]
struct Inner {
    is_raised: AtomicBool,
    state: Mutex<State>,
    raised: Condvar,
}

#[derive(Default)]
struct State {
    cause: Option<String>,
    wakers: Vec<Box<dyn FnOnce() + Send>>,
}

impl Abort {
    /// Not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the run. The first cause wins: later ones are mostly its consequences.
    pub fn raise(&self, cause: impl Into<String>) {
        let wakers = {
            let mut state = self.lock();
            if state.cause.is_some() {
                return;
            }
            state.cause = Some(cause.into());
            self.0.is_raised.store(true, Relaxed);
            std::mem::take(&mut state.wakers)
        };
        self.0.raised.notify_all();
        // Outside the lock, since a waker may look at the cause.
        for wake in wakers {
            wake();
        }
    }

    /// Why the run is over, or `None` while it goes on.
    pub fn cause(&self) -> Option<String> {
        self.lock().cause.clone()
    }

    /// True once raised; cheaper than [`cause`](Self::cause).
    pub fn is_raised(&self) -> bool {
        self.0.is_raised.load(Relaxed)
    }

    /// # Errors
    /// Once the run is over.
    pub fn check(&self) -> Result<(), CommError> {
        if !self.is_raised() {
            return Ok(());
        }
        Err(CommError::Aborted { cause: self.cause().unwrap_or_default() })
    }

    /// Calls `wake` when the run ends, or at once if it has: for those who sleep on something
    /// that is not this object, such as a queue or a socket.
    pub fn on_raise(&self, wake: impl FnOnce() + Send + 'static) {
        let mut state = self.lock();
        if state.cause.is_none() {
            state.wakers.push(Box::new(wake));
            return;
        }
        drop(state);
        wake();
    }

    /// Sleeps until the run ends, at most `limit` (`Duration::MAX` is no limit); returns the cause,
    /// or `None` at the limit.
    pub fn wait(&self, limit: Duration) -> Option<String> {
        let since = Instant::now(); // not the end, which may be later than any `Instant`
        let mut state = self.lock();
        while state.cause.is_none() {
            let left = limit.checked_sub(since.elapsed())?;
            state = wait_timeout(&self.0.raised, state, left);
        }
        state.cause.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

#[cfg(test)]
mod tests;
