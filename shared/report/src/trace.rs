//! What each rank was doing, and when.

use crate::clock::{Clock, Mark, Moment};
use crate::event::{Event, RankTrace, Track};
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

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
    /// That of the queue in which the rank's tensor operations run, if they are queued.
    clock: OnceLock<Arc<dyn Clock>>,
    /// What has ended since the last export.
    ended: Mutex<Vec<Ended>>,
    /// What ended before it, since a mark is asked for its time only once.
    exported: Mutex<Vec<Event>>,
}

/// A span that is over for the host, while a GPU may not have come to it yet.
struct Ended {
    track: Track,
    name: Cow<'static, str>,
    start: Moment,
    end: Moment,
    bytes: Option<u64>,
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

    /// Records nothing until [`start`](Self::start), so that a run can record its last step alone.
    pub fn paused(rank: usize, name: String) -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self(Some(Arc::new(Recorder {
            rank,
            name,
            recording: AtomicBool::new(false),
            epoch_ns: since_epoch.map_or(0, |d| d.as_nanos() as u64),
            instant: Instant::now(),
            clock: OnceLock::new(),
            ended: Mutex::default(),
            exported: Mutex::default(),
        })))
    }

    /// Takes the times of [`Track::Compute`] and [`Track::Wait`] spans from `clock`, on all clones.
    /// To be called before the first span, and once: a second clock is ignored.
    pub fn set_clock(&self, clock: Arc<dyn Clock>) {
        if let Some(recorder) = &self.0 {
            let _ = recorder.clock.set(clock);
        }
    }

    /// Records from now on, on all clones. Spans that are already under way stay out.
    pub fn start(&self) {
        if let Some(recorder) = &self.0 {
            if let Some(clock) = recorder.clock.get() {
                clock.start();
            }
            recorder.recording.store(true, Relaxed);
        }
    }

    /// Ask before formatting a name, or making a mark, that only the trace would use.
    pub fn enabled(&self) -> bool {
        self.recorder().is_some()
    }

    fn recorder(&self) -> Option<&Arc<Recorder>> {
        self.0.as_ref().filter(|recorder| recorder.recording.load(Relaxed))
    }

    /// A span from now until the guard is dropped, on whichever thread that happens. (With a clock,
    /// both ends are those of what the thread, at that moment, has queued.)
    #[must_use = "the span ends when this is dropped"]
    pub fn span(&self, track: Track, name: impl Into<Cow<'static, str>>) -> Span {
        Span(self.recorder().map(|recorder| Running {
            start: recorder.now(&track),
            recorder: recorder.clone(),
            track,
            name: name.into(),
            bytes: None,
        }))
    }

    /// A span between two points of queued work, whichever queue that is, that moves `bytes`.
    pub fn between(
        &self,
        track: Track,
        name: impl Into<Cow<'static, str>>,
        start: Box<dyn Mark>,
        end: Box<dyn Mark>,
        bytes: u64,
    ) {
        if let Some(recorder) = self.recorder() {
            let (start, end) = (Moment::Marked(start), Moment::Marked(end));
            let span = Ended { track, name: name.into(), start, end, bytes: Some(bytes) };
            lock(&recorder.ended).push(span);
        }
    }

    /// This rank's events so far, in a form for [`crate::write_trace`] and [`crate::Chart::read`];
    /// empty where none were to be recorded. Waits until the work that they mark is done.
    pub fn export(&self) -> Vec<u8> {
        let Some(recorder) = self.recorder() else {
            return Vec::new();
        };
        let mut events = lock(&recorder.exported);
        // Not locked while waiting for marks: the work may wait for a thread that records.
        let ended = std::mem::take(&mut *lock(&recorder.ended));
        events.extend(ended.into_iter().map(Ended::event));
        let (rank, name, events) = (recorder.rank, recorder.name.clone(), events.clone());
        serde_json::to_vec(&RankTrace { rank, name, events })
            .expect("strings and whole numbers always serialise")
    }

    /// What the rank has computed since `start`: milliseconds from there to the beginning and to the
    /// end of each span of [`Track::Compute`], and its name.
    pub fn computed(&self, start: SystemTime) -> Vec<(f64, f64, String)> {
        let Ok(trace) = serde_json::from_slice::<RankTrace>(&self.export()) else { return vec![] };
        let since_epoch = start.duration_since(SystemTime::UNIX_EPOCH);
        let start = since_epoch.map_or(0, |d| d.as_nanos() as u64);
        let ms = |ns: u64| (ns - start) as f64 / 1e6;
        let ours = |e: &Event| e.track == Track::Compute && e.start_ns >= start;
        let spans = trace.events.into_iter().filter(ours);
        spans.map(|e| (ms(e.start_ns), ms(e.end_ns), e.name.into_owned())).collect()
    }
}

impl Recorder {
    /// Now, for the host; for queued work, the moment when what is queued so far is done.
    fn now(&self, track: &Track) -> Moment {
        match self.clock.get() {
            Some(clock) if matches!(track, Track::Compute | Track::Wait) => {
                Moment::Marked(clock.mark())
            }
            _ => Moment::Known(self.epoch_ns + self.instant.elapsed().as_nanos() as u64),
        }
    }
}

impl Ended {
    fn event(self) -> Event {
        let start_ns = self.start.ns();
        // Whatever a clock says, no span has a negative length: readers of the trace subtract.
        let end_ns = self.end.ns().max(start_ns);
        Event { track: self.track, name: self.name, start_ns, end_ns, bytes: self.bytes }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running span; it ends when dropped.
pub struct Span(Option<Running>);

struct Running {
    recorder: Arc<Recorder>,
    track: Track,
    name: Cow<'static, str>,
    start: Moment,
    bytes: Option<u64>,
}

impl Span {
    /// Adds the number of bytes moved, shown among the span's arguments.
    pub fn bytes(mut self, bytes: u64) -> Self {
        if let Some(running) = &mut self.0 {
            running.bytes = Some(bytes);
        }
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(Running { recorder, track, name, start, bytes }) = self.0.take() {
            let end = recorder.now(&track);
            lock(&recorder.ended).push(Ended { track, name, start, end, bytes });
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
        std::thread::spawn(move || drop(other.span(Track::group("dp"), "all_reduce").bytes(8)))
            .join()
            .unwrap();
        drop(outer);
        let rank: RankTrace = serde_json::from_slice(&trace.export()).unwrap();
        assert_eq!((rank.rank, rank.name.as_str()), (3, "dp1 pp1"));
        let [inner, outer] = &rank.events[..] else { panic!("{:?}", rank.events) };
        assert_eq!(
            (&inner.track, &*inner.name, inner.bytes),
            (&Track::group("dp"), "all_reduce", Some(8))
        );
        assert!(outer.start_ns <= inner.start_ns && inner.end_ns <= outer.end_ns);
    }
}
