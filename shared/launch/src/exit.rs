//! How a process leaves a run that has failed.

use std::io::Write;

/// Ends this process at once, with code 1, as a run that has failed should: an abandoned rank may
/// still be computing, and would crash when an orderly exit takes things down.
pub fn end_process() -> ! {
    let _ = std::io::stdout().flush();
    // SAFETY: takes no pointers and does not return; nothing of this process runs afterwards.
    unsafe { libc::_exit(1) }
}
