//! Sleeping until a socket is ready.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// Sleeps until `socket` has something to read (or to accept), at most `limit`.
pub(super) fn readable(socket: &impl AsRawFd, limit: Duration) {
    ready(Some(socket.as_raw_fd()), None, limit);
}

/// Sleeps until one can be read from or the other written to, at most `limit`. May wake early:
/// whoever calls it tries again anyway.
pub(super) fn ready(read: Option<RawFd>, write: Option<RawFd>, limit: Duration) {
    let entry = |fd: Option<RawFd>, events| libc::pollfd {
        fd: fd.unwrap_or(-1), // skipped by the kernel
        events,
        revents: 0,
    };
    let mut entries = [entry(read, libc::POLLIN), entry(write, libc::POLLOUT)];
    let (count, limit) = (entries.len() as libc::nfds_t, limit.as_millis() as libc::c_int);
    // SAFETY: `entries` is an array of `count` initialised entries that outlives the call.
    unsafe { libc::poll(entries.as_mut_ptr(), count, limit) };
}
