//! Queues of work on a GPU, and points in them.

use crate::ffi::{self, RawEvent, RawStream, check};
use anyhow::Result;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

/// A queue of work: what is put into it runs in order, concurrently with other streams. The host
/// goes on at once.
pub struct Stream(*mut RawStream);

// SAFETY: a c10::Stream is a device number and an id, never written after it was made, and the calls
// that take one may be made from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// The stream on which the calling thread's tensor operations run.
    pub fn current(ordinal: usize) -> Result<Self> {
        let mut raw = null_mut();
        // SAFETY: without an error the shim stores a stream, which is ours.
        check(unsafe { ffi::ferrotron_gpu_current_stream(ordinal as c_int, &mut raw) })?;
        Ok(Self(raw))
    }

    /// A stream beside it, of high priority: its work starts first if both could start. libtorch
    /// has 32 of them for each device and hands them out in turn.
    pub fn side(ordinal: usize) -> Result<Self> {
        let mut raw = null_mut();
        // SAFETY: as in `current`.
        check(unsafe { ffi::ferrotron_gpu_side_stream(ordinal as c_int, &mut raw) })?;
        Ok(Self(raw))
    }

    /// The `cudaStream_t`, for libraries that take one.
    pub fn handle(&self) -> Result<*mut c_void> {
        let mut handle = null_mut();
        // SAFETY: the stream is alive, and `handle` outlives the call.
        check(unsafe { ffi::ferrotron_gpu_stream_handle(self.0, &mut handle) })?;
        Ok(handle)
    }

    /// Makes what is queued here from now on start after `event`. The host does not wait.
    pub fn wait(&self, event: &Event) -> Result<()> {
        // SAFETY: both are alive.
        check(unsafe { ffi::ferrotron_gpu_wait(self.0, event.0) })
    }

    /// The point after everything that is queued so far.
    pub fn record(&self) -> Result<Event> {
        self.event(false)
    }

    /// As [`Stream::record`], for [`Event::milliseconds_since`].
    pub fn record_timed(&self) -> Result<Event> {
        self.event(true)
    }

    fn event(&self, timed: bool) -> Result<Event> {
        let mut raw = null_mut();
        // SAFETY: the stream is alive; without an error the shim stores an event, which is ours.
        check(unsafe { ffi::ferrotron_gpu_record(self.0, timed, &mut raw) })?;
        Ok(Event(raw))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once. The stream itself belongs to libtorch's pool.
        unsafe { ffi::ferrotron_gpu_drop_stream(self.0) }
    }
}

/// A point in a stream's work.
pub struct Event(*mut RawEvent);

// SAFETY: recorded once when it was made; afterwards it is only asked and waited for, which CUDA
// allows from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// Whether the GPU has passed this point. Does not wait.
    ///
    /// # Errors
    /// A failure of anything that ran on the GPU before, which CUDA reports to whoever asks next.
    pub fn is_done(&self) -> Result<bool> {
        let mut done = false;
        // SAFETY: the event is alive, and `done` outlives the call.
        check(unsafe { ffi::ferrotron_gpu_query(self.0, &mut done) })?;
        Ok(done)
    }

    /// Waits, on the host, until the GPU has passed this point.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the event is alive.
        check(unsafe { ffi::ferrotron_gpu_synchronize_event(self.0) })
    }

    /// From `earlier` to this; both timed, both passed.
    pub fn milliseconds_since(&self, earlier: &Event) -> Result<f64> {
        let mut milliseconds = 0.0;
        // SAFETY: both events are alive.
        check(unsafe { ffi::ferrotron_gpu_elapsed(earlier.0, self.0, &mut milliseconds) })?;
        Ok(milliseconds)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, and dropped once; CUDA keeps what a stream still waits for.
        unsafe { ffi::ferrotron_gpu_drop_event(self.0) }
    }
}
