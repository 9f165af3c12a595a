//! What a thread's tensors take of a CPU's memory, as a line over time.

use crate::ffi::{Change as Raw, check, ferrotron_observe_memory, free};
use crate::ffi::{ferrotron_start_recording, ferrotron_stop_recording};
use anyhow::{Context, Result, ensure};
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// One change of what a rank holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Since the start of the recording.
    pub at: Duration,
    /// Allocated, or freed if negative.
    pub bytes: i64,
}

/// From here on, until the calling thread ends, every tensor's memory on a CPU that it allocates
/// is its own: a [`Recording`] of the thread then also sees when memory from before the
/// recording is freed. So a rank calls this before it makes its weights. Calling it twice changes
/// nothing.
///
/// Exact in bytes, as libtorch is asked for them: views and shared storage count once, and it does
/// not matter which thread drops the last reference. Not counted are what kernels take past
/// libtorch's allocator (the work space of a matrix product), what threads allocate that the
/// calling thread starts, and files mapped into memory.
///
/// The first call of a process puts an observer in front of libtorch's allocator. A thread that
/// is not observed loses one look at a thread-local pointer an allocation.
///
/// # Errors
/// If libtorch does not take the observer.
pub fn observe_memory() -> Result<()> {
    // SAFETY: no arguments, and what it returns is its error.
    unsafe { check(ferrotron_observe_memory()) }.context("cannot observe libtorch's memory")
}

/// Records what the calling thread's tensors take, until it is finished or dropped. It stays on
/// its thread.
#[must_use = "dropping it ends the recording"]
pub struct Recording {
    start: Instant,
    held: i64,
    _of_this_thread: PhantomData<*const ()>,
}

/// Begins to record allocations of the calling thread and their frees, wherever these happen.
/// Observes the thread ([`observe_memory`]) if nobody has yet.
///
/// # Errors
/// If the thread is being recorded already.
pub fn record_memory() -> Result<Recording> {
    observe_memory()?;
    let (start, mut held) = (Instant::now(), 0);
    // SAFETY: this thread has just been observed; `held` outlives the call.
    let started = unsafe { ferrotron_start_recording(&mut held) };
    ensure!(started, "the memory of this thread is being recorded already: finish that first");
    Ok(Recording { start, held, _of_this_thread: PhantomData })
}

impl Recording {
    /// When it began: the zero of [`Change::at`].
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Bytes that the thread held when the recording began, since it is observed.
    pub fn held(&self) -> i64 {
        self.held
    }

    /// Ends it: the changes in their order.
    pub fn finish(self) -> Vec<Change> {
        stop() // and again when `self` is dropped, which finds nothing
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        stop();
    }
}

/// The highest sum on the way through `changes`, from 0.
pub fn peak(changes: &[Change]) -> i64 {
    let sums = changes.iter().scan(0, |held, change| {
        *held += change.bytes;
        Some(*held)
    });
    sums.max().unwrap_or(0).max(0)
}

fn stop() -> Vec<Change> {
    let mut n = 0;
    // SAFETY: `n` outlives the call; the thread is observed, or about to end.
    let changes = unsafe { ferrotron_stop_recording(&mut n) };
    if changes.is_null() {
        return Vec::new();
    }
    // SAFETY: `changes` points to `n` of them, which nobody else holds.
    let raw = unsafe { std::slice::from_raw_parts(changes, n) };
    let change = |raw: &Raw| Change { at: Duration::from_nanos(raw.nanoseconds), bytes: raw.bytes };
    let out = raw.iter().map(change).collect();
    // SAFETY: it came from malloc.
    unsafe { free(changes.cast()) };
    out
}
