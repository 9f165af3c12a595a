//! The C interface of `shim.cpp`.

use anyhow::{Result, anyhow};
use std::ffi::{CStr, c_char, c_int, c_void};
use torch_sys::C_tensor;

/// `c10::Stream` and `c10::Event`, which Rust only points at.
pub(crate) enum RawStream {}
pub(crate) enum RawEvent {}

unsafe extern "C" {
    pub(crate) fn ferrotron_gpu_set_device(ordinal: c_int) -> *const c_char;
    pub(crate) fn ferrotron_gpu_synchronize(ordinal: c_int) -> *const c_char;
    pub(crate) fn ferrotron_gpu_peak_memory(bytes: *mut i64) -> *const c_char;
    pub(crate) fn ferrotron_gpu_current_stream(
        ordinal: c_int,
        stream: *mut *mut RawStream,
    ) -> *const c_char;
    pub(crate) fn ferrotron_gpu_side_stream(
        ordinal: c_int,
        stream: *mut *mut RawStream,
    ) -> *const c_char;
    pub(crate) fn ferrotron_gpu_stream_handle(
        stream: *const RawStream,
        handle: *mut *mut c_void,
    ) -> *const c_char;
    pub(crate) fn ferrotron_gpu_drop_stream(stream: *mut RawStream);
    pub(crate) fn ferrotron_gpu_record(
        stream: *const RawStream,
        timed: bool,
        event: *mut *mut RawEvent,
    ) -> *const c_char;
    pub(crate) fn ferrotron_gpu_wait(
        stream: *const RawStream,
        event: *const RawEvent,
    ) -> *const c_char;
    pub(crate) fn ferrotron_gpu_query(event: *const RawEvent, done: *mut bool) -> *const c_char;
    pub(crate) fn ferrotron_gpu_synchronize_event(event: *const RawEvent) -> *const c_char;
    pub(crate) fn ferrotron_gpu_elapsed(
        from: *const RawEvent,
        to: *const RawEvent,
        milliseconds: *mut f64,
    ) -> *const c_char;
    pub(crate) fn ferrotron_gpu_upload(
        tensor: *const C_tensor,
        ordinal: c_int,
        result: *mut *mut C_tensor,
    ) -> *const c_char;
    pub(crate) fn ferrotron_gpu_drop_event(event: *mut RawEvent);
}

/// Turns what an entry point of the shim returned into a `Result`.
pub(crate) fn check(error: *const c_char) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null return is a NUL-terminated string that stays until this thread calls again.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy();
    // libtorch appends a C++ stack trace; the first line is the message.
    Err(anyhow!("{}", text.lines().next().unwrap_or_default().to_owned()))
}
