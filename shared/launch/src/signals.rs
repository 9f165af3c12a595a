//! Signals by which a batch system, or a person, asks a run to end.
//!
//! Each process waits for them on a thread of its own. A run that saves goes on to the end of its
//! step, where all ranks agree to end ([`Mesh::ends_early`](comm::Mesh::ends_early)); any other
//! ends at once, in one sentence.

use crate::exit::end_process;
use anyhow::{Context, anyhow};
use comm::Interrupts;
use comm::sync::{lock, start};
use libc::c_int;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ};
use signal_hook::low_level::{emulate_default_handler, signal_name};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, mem, ptr};

/// What Slurm, LSF, PBS and SGE send before they kill.
const HEEDED: [c_int; 4] = [SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU];

/// A launcher may pass on a signal that its ranks have been sent as well: one that comes again
/// within this time is the same one.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether a signal has told this process to end. A clone is another handle; the default leaves all
/// signals to do what they do by themselves.
#[derive(Clone, Default)]
pub struct Signals(Option<Arc<Heeded>>);

struct Heeded {
    saves: bool,
    /// Why they are not heeded after all.
    trouble: Option<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    told: Option<c_int>,
    /// What all ranks agree to end for.
    agreed: Option<c_int>,
    heir: Option<Box<dyn FnOnce(c_int) + Send>>,
}

/// The run has ended before its last step, as a signal asked it to, and its state is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped by {}", name(*.signal))]
pub struct Stopped {
    /// Its number.
    pub signal: c_int,
    /// Whether it is for this process to say so: one does for the whole world.
    pub leader: bool,
}

impl Signals {
    /// Heeds them from now on. With `saves`, the run is one that can save and end between two
    /// steps; then Ctrl-C (SIGINT) counts as well, unless this process was started to ignore it.
    /// Where nobody listens (the launchers do), the process ends with one sentence and code 1. A
    /// signal that comes again after a second ends the process at once.
    ///
    /// A write beyond the limit on a file's size (SIGXFSZ, `ulimit -f`) becomes an error like any
    /// other.
    /// Call [`check`](Self::check) before relying on it.
    pub fn heed(saves: bool) -> Self {
        let heeded =
            |trouble| Self(Some(Arc::new(Heeded { saves, trouble, state: Mutex::default() })));
        let signals = heeded(None);
        match signals.start(saves) {
            Ok(()) => signals,
            Err(error) => heeded(Some(format!("{error:#}"))),
        }
    }

    /// # Errors
    /// If no handler could be set, or no thread started that waits for signals.
    pub fn check(&self) -> anyhow::Result<()> {
        let trouble = self.0.as_ref().and_then(|heeded| heeded.trouble.as_ref());
        trouble.map_or(Ok(()), |trouble| Err(anyhow!(trouble.clone())))
    }

    fn start(&self, saves: bool) -> anyhow::Result<()> {
        let cannot = "cannot handle signals";
        signal_hook::flag::register(SIGXFSZ, Arc::default()).context(cannot)?;
        let interrupt = (saves && !is_ignored(SIGINT)).then_some(SIGINT);
        let mut arriving = signal_hook::iterator::Signals::new(HEEDED.into_iter().chain(interrupt))
            .context(cannot)?;
        let heard = self.clone();
        start("wait for signals", move || {
            let mut first = HashMap::new();
            for signal in arriving.forever() {
                let since = first.entry(signal).or_insert_with(Instant::now).elapsed();
                // SIGXCPU is repeated every second.
                if since >= AGAIN && signal != SIGXCPU {
                    let _ = emulate_default_handler(signal);
                }
                heard.tell(signal);
            }
        })?;
        Ok(())
    }

    /// Calls `heir` with the first signal that comes, unless it has come. Replaces the one before.
    pub(crate) fn listen(&self, heir: impl FnOnce(c_int) + Send + 'static) {
        if let Some(heeded) = &self.0 {
            lock(&heeded.state).heir = Some(Box::new(heir));
        }
    }

    /// As if this process had been sent `signal`.
    pub(crate) fn tell(&self, signal: c_int) {
        let Some(heeded) = &self.0 else { return };
        let mut state = lock(&heeded.state);
        if state.told.is_some() {
            return;
        }
        state.told = Some(signal);
        let heir = state.heir.take();
        drop(state);
        match heir {
            Some(heir) => heir(signal),
            None => {
                eprintln!("error: {}", ended("the run", signal));
                end_process()
            }
        }
    }

    /// What all ranks have agreed to end for.
    pub(crate) fn agreed(&self) -> Option<c_int> {
        self.0.as_ref().and_then(|heeded| lock(&heeded.state).agreed)
    }

    /// What `ended_well` becomes where all ranks have ended early.
    pub(crate) fn verdict<T>(&self, ended_well: T, leader: bool) -> anyhow::Result<T> {
        self.agreed().map_or(Ok(ended_well), |signal| Err(Stopped { signal, leader }.into()))
    }
}

impl Interrupts for Signals {
    fn saves(&self) -> bool {
        self.0.as_ref().is_some_and(|heeded| heeded.saves)
    }

    fn told(&self) -> Option<c_int> {
        self.0.as_ref().and_then(|heeded| lock(&heeded.state).told)
    }

    fn agree(&self, signal: c_int) {
        if let Some(heeded) = &self.0 {
            lock(&heeded.state).agreed = Some(signal);
        }
    }
}

/// Why a run, or a rank, that does not save is over.
pub(crate) fn ended(who: &str, signal: c_int) -> String {
    format!("{who} was ended by {}", name(signal))
}

/// For whoever waits: a step may take a while.
pub(crate) fn announce(signal: c_int) {
    let name = name(signal);
    eprintln!("{name}: the run ends after this step and saves; another {name} ends it at once");
}

fn name(signal: c_int) -> String {
    signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
}

/// Whether this process was started to ignore `signal`, as a shell does with what runs in
/// the background.
fn is_ignored(signal: c_int) -> bool {
    // SAFETY: a `sigaction` of zeros is one, and it is written before it is read.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // SAFETY: with a null pointer for the new action, the call only writes the old one to `action`.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Signals").field("heeded", &self.0.is_some()).finish_non_exhaustive()
    }
}
