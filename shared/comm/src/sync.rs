//! Locks, waits and threads.
//!
//! Locks and waits go on after a panic on another thread: nothing here is left half-written under a
//! lock, so what a poisoned one holds is sound.

use anyhow::{Context, Result};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a sentence on missing threads ends with; a login node often has such a limit.
pub const LIMIT: &str = "`ulimit -u` limits a user's processes and threads";

/// Locks `mutex`.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sleeps until `condvar` is notified.
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Sleeps until `condvar` is notified, at most `limit`.
pub fn wait_timeout<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    limit: Duration,
) -> MutexGuard<'a, T> {
    condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
}

/// Starts a thread beside the ranks' own, to `purpose`: a verb and its object.
///
/// # Errors
/// If the system allows no more threads.
pub fn start(purpose: &str, job: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let started = thread::Builder::new().name(purpose.to_owned()).spawn(job);
    started.with_context(|| format!("cannot start a thread to {purpose} ({LIMIT})"))
}
