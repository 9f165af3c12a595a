//! Threads beside the ranks' own.

use anyhow::{Context, Result};
use std::thread::{self, JoinHandle};

/// For the sentences that follow; a login node often has such a limit.
pub(crate) const LIMIT: &str = "`ulimit -u` limits a user's processes and threads";

/// Starts a thread to `purpose`, a verb and its object.
///
/// # Errors
/// If the system allows no more threads.
pub(crate) fn start(purpose: &str, job: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let started = thread::Builder::new().name(purpose.to_owned()).spawn(job);
    started.with_context(|| format!("cannot start a thread to {purpose} ({LIMIT})"))
}
