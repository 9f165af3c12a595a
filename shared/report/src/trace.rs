//! What each rank was doing, and when.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// The row of a rank on which a span is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Track {
    Compute,
    /// Blocked on another rank.
    Wait,
    Dp,
    Tp,
    Pp,
    Cp,
    World,
}

impl Track {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Wait => "wait",
            Self::Dp => "dp",
            Self::Tp => "tp",
            Self::Pp => "pp",
            Self::Cp => "cp",
            Self::World => "world",
        }
    }
}

/// A handle on one rank's recording; clones share it, from any thread. While nothing is recorded, a
/// span costs one relaxed load.
#[derive(Clone)]
pub struct Trace(Option<Arc<Recorder>>);

struct Recorder {
    rank: usize,
    name: String,
    recording: AtomicBool,
    /// The same moment on two clocks: one that all processes share, and one that never jumps.
    epoch_ns: u64,
    instant: Instant,
    events: Mutex<Vec<Event>>,
}

/// Times are nanoseconds since the Unix epoch, so that ranks of several processes line up. (As f64
/// microseconds they would be rounded to quarters: the epoch is far away.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub track: Track,
    pub name: Cow<'static, str>,
    pub start_ns: u64,
    pub end_ns: u64,
    pub bytes: Option<u64>,
}

/// One rank's events, as they travel to the rank that writes the file.
#[derive(Serialize, Deserialize)]
pub(crate) struct RankTrace {
    pub rank: usize,
    pub name: String,
    pub events: Vec<Event>,
}

impl RankTrace {
    /// Reads what the ranks exported; empty exports are left out.
    pub fn read(exports: &[Vec<u8>]) -> Result<Vec<Self>> {
        let recorded = exports.iter().filter(|bytes| !bytes.is_empty());
        recorded
            .map(|bytes| serde_json::from_slice(bytes).context("not a rank's exported trace"))
            .collect()
    }
}

impl Trace {
    /// Records nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Records from now on. `name` is the rank's coordinates, such as `dp1 pp0 cp0 tp1`.
    pub fn new(rank: usize, name: String) -> Self {
        let trace = Self::paused(rank, name);
        trace.start();
        trace
    }

    /// Records nothing until [`start`](Self::start): a run can keep its last step alone.
    pub fn paused(rank: usize, name: String) -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self(Some(Arc::new(Recorder {
            rank,
            name,
            recording: AtomicBool::new(false),
            epoch_ns: since_epoch.map_or(0, |d| d.as_nanos() as u64),
            instant: Instant::now(),
            events: Mutex::default(),
        })))
    }

    /// Records from now on, on all clones. Spans that are already under way stay out.
    pub fn start(&self) {
        if let Some(recorder) = &self.0 {
            recorder.recording.store(true, Relaxed);
        }
    }

    /// Ask before formatting a name that only the trace would use.
    pub fn enabled(&self) -> bool {
        self.recorder().is_some()
    }

    fn recorder(&self) -> Option<&Arc<Recorder>> {
        self.0.as_ref().filter(|recorder| recorder.recording.load(Relaxed))
    }

    /// A span from now until the guard is dropped, on whichever thread that happens.
    #[must_use = "the span ends when this is dropped"]
    pub fn span(&self, track: Track, name: impl Into<Cow<'static, str>>) -> Span {
        Span(self.recorder().map(|recorder| {
            let start_ns = recorder.now_ns();
            let name = name.into();
            (recorder.clone(), Event { track, name, start_ns, end_ns: start_ns, bytes: None })
        }))
    }

    /// This rank's events so far, in a form for [`crate::write_trace`] and [`crate::Chart::read`]; empty
    /// where none were to be recorded.
    pub fn export(&self) -> Vec<u8> {
        let Some(recorder) = self.recorder() else {
            return Vec::new();
        };
        let events = recorder.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trace = RankTrace { rank: recorder.rank, name: recorder.name.clone(), events };
        serde_json::to_vec(&trace).expect("strings and whole numbers always serialise")
    }
}

impl Recorder {
    fn now_ns(&self) -> u64 {
        self.epoch_ns + self.instant.elapsed().as_nanos() as u64
    }
}

/// A running span; it ends when dropped.
pub struct Span(Option<(Arc<Recorder>, Event)>);

impl Span {
    /// Adds the number of bytes moved, shown among the span's arguments.
    pub fn bytes(mut self, bytes: u64) -> Self {
        if let Some((_, event)) = &mut self.0 {
            event.bytes = Some(bytes);
        }
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some((recorder, mut event)) = self.0.take() {
            event.end_ns = recorder.now_ns();
            recorder.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_records_nothing() {
        let trace = Trace::off();
        drop(trace.span(Track::Compute, "forward").bytes(3));
        assert!(!trace.enabled());
        assert_eq!(trace.export(), b"");
    }

    #[test]
    fn a_paused_trace_keeps_what_begins_after_its_start() {
        let trace = Trace::paused(0, "dp0".into());
        let clone = trace.clone();
        let early = clone.span(Track::Compute, "early");
        assert!(!clone.enabled());
        assert_eq!(clone.export(), b"");
        trace.start();
        drop(early);
        drop(clone.span(Track::Compute, "late"));
        let rank: RankTrace = serde_json::from_slice(&trace.export()).unwrap();
        let names: Vec<_> = rank.events.iter().map(|event| &*event.name).collect();
        assert_eq!(names, ["late"]);
    }

    #[test]
    fn clones_on_other_threads_record_into_one_trace() {
        let trace = Trace::new(3, "dp1 pp1".into());
        let outer = trace.span(Track::Compute, "step");
        let other = trace.clone();
        std::thread::spawn(move || drop(other.span(Track::Dp, "all_reduce").bytes(8)))
            .join()
            .unwrap();
        drop(outer);
        let rank: RankTrace = serde_json::from_slice(&trace.export()).unwrap();
        assert_eq!((rank.rank, rank.name.as_str()), (3, "dp1 pp1"));
        let [inner, outer] = &rank.events[..] else { panic!("{:?}", rank.events) };
        assert_eq!((inner.track, &*inner.name, inner.bytes), (Track::Dp, "all_reduce", Some(8)));
        assert!(outer.start_ns <= inner.start_ns && inner.end_ns <= outer.end_ns);
    }
}
