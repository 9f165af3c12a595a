//! When queued work is done.
//!
//! The host hands a GPU its work and goes on at once, so its own clock tells when an operation
//! was queued. When the GPU came to it is known only afterwards, from marks that were queued
//! along with the work.

/// A clock that shows when queued work is reached, not when it was queued: a GPU's.
pub trait Clock: Send + Sync {
    /// Recording starts: marks of moments from now on will follow.
    fn start(&self);
    /// The end of what the calling thread has queued so far.
    fn mark(&self) -> Box<dyn Mark>;
}

/// A point in queued work.
pub trait Mark: Send {
    /// Nanoseconds since the Unix epoch at which it was reached; waits until then.
    fn ns(&self) -> u64;
}

/// One end of a span.
pub(crate) enum Moment {
    /// Nanoseconds since the Unix epoch.
    Known(u64),
    Marked(Box<dyn Mark>),
}

impl Moment {
    pub fn ns(self) -> u64 {
        match self {
            Self::Known(ns) => ns,
            Self::Marked(mark) => mark.ns(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, RankTrace, Track};
    use crate::trace::Trace;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::sync::{Arc, Mutex, mpsc};
    use std::time::Duration;

    /// Its n-th mark is reached at n × 100, which is long before any time of the host.
    #[derive(Default)]
    struct Fake {
        marks: AtomicU64,
        starts: AtomicU64,
        /// The times that were asked for.
        asked: Arc<Mutex<Vec<u64>>>,
    }

    struct FakeMark(u64, Arc<Mutex<Vec<u64>>>);

    impl Clock for Fake {
        fn start(&self) {
            assert_eq!(self.marks(), 0, "started after a mark");
            self.starts.fetch_add(1, Relaxed);
        }

        fn mark(&self) -> Box<dyn Mark> {
            let n = self.marks.fetch_add(1, Relaxed) + 1;
            Box::new(FakeMark(n * 100, self.asked.clone()))
        }
    }

    impl Mark for FakeMark {
        fn ns(&self) -> u64 {
            self.1.lock().unwrap().push(self.0);
            self.0
        }
    }

    impl Fake {
        fn at(&self, ns: u64) -> Box<dyn Mark> {
            Box::new(FakeMark(ns, self.asked.clone()))
        }

        fn marks(&self) -> u64 {
            self.marks.load(Relaxed)
        }

        fn asked(&self) -> Vec<u64> {
            self.asked.lock().unwrap().clone()
        }
    }

    fn under_clock(trace: Trace) -> (Trace, Arc<Fake>) {
        let clock = Arc::new(Fake::default());
        trace.set_clock(clock.clone());
        (trace, clock)
    }

    fn events(trace: &Trace) -> Vec<Event> {
        serde_json::from_slice::<RankTrace>(&trace.export()).unwrap().events
    }

    fn times(event: &Event) -> String {
        format!("{} {}–{}", event.name, event.start_ns, event.end_ns)
    }

    #[test]
    fn what_is_queued_takes_the_times_of_the_clock_and_the_rest_those_of_the_host() {
        let trace = Trace::new(0, "dp0".into());
        let clone = trace.clone();
        let (trace, clock) = under_clock(trace);
        let outer = clone.span(Track::Compute, "forward");
        drop(clone.span(Track::Wait, "recv"));
        let sum = clone.span(Track::group("dp"), "all_reduce");
        drop(outer);
        drop(sum);
        assert_eq!((clock.marks(), clock.asked()), (4, vec![]), "asked before the export");

        let events = events(&trace);
        let [recv, forward, sum] = &events[..] else { panic!("{events:?}") };
        assert_eq!([recv, forward].map(times), ["recv 200–300", "forward 100–400"]);
        assert!(sum.start_ns > 1_600_000_000_000_000_000 && sum.end_ns >= sum.start_ns);
    }

    #[test]
    fn each_mark_is_asked_once_however_often_the_trace_is_exported() {
        let (trace, clock) = under_clock(Trace::new(0, "dp0".into()));
        drop(trace.span(Track::Compute, "first"));
        let first = trace.export();
        assert_eq!(clock.asked(), [100, 200]);
        assert_eq!(trace.export(), first);
        drop(trace.span(Track::Compute, "second"));
        let events = events(&trace);
        let [first, second] = &events[..] else { panic!("{events:?}") };
        assert_eq!([first, second].map(times), ["first 100–200", "second 300–400"]);
        assert_eq!(clock.asked(), [100, 200, 300, 400]);
    }

    #[test]
    fn nothing_is_marked_while_nothing_is_recorded() {
        let (off, clock) = under_clock(Trace::off());
        drop(off.span(Track::Compute, "forward"));
        assert_eq!((clock.marks(), off.export()), (0, vec![]));

        let (trace, clock) = under_clock(Trace::paused(0, "dp0".into()));
        let early = trace.span(Track::Compute, "early");
        trace.between(Track::group("dp"), "early", clock.at(1), clock.at(2), 8);
        assert_eq!(clock.starts.load(Relaxed), 0);
        trace.start();
        assert_eq!(clock.starts.load(Relaxed), 1);
        drop(early);
        assert!(events(&trace).is_empty());
        assert_eq!((clock.marks(), clock.asked()), (0, vec![]));
    }

    #[test]
    fn a_span_between_two_marks_has_their_times_on_any_track() {
        let (trace, clock) = under_clock(Trace::new(0, "dp0".into()));
        trace.between(Track::group("tp"), "all_gather", clock.at(7), clock.at(9), 64);
        // As a clock might say that broke down between the two.
        trace.between(Track::group("tp"), "broken", clock.at(9), clock.at(0), 64);
        let events = events(&trace);
        let [event, broken] = &events[..] else { panic!("{events:?}") };
        assert_eq!(
            (&event.track, &*event.name, event.bytes),
            (&Track::group("tp"), "all_gather", Some(64))
        );
        assert_eq!([event, broken].map(times), ["all_gather 7–9", "broken 9–9"]);
        assert_eq!(clock.marks(), 0);
    }

    /// Is reached only after another thread has recorded something.
    struct Behind(Trace);

    impl Mark for Behind {
        fn ns(&self) -> u64 {
            let (trace, (done, wait)) = (self.0.clone(), mpsc::channel());
            std::thread::spawn(move || {
                drop(trace.span(Track::group("dp"), "meanwhile"));
                done.send(()).unwrap();
            });
            wait.recv_timeout(Duration::from_secs(30)).expect("nothing can be recorded");
            5
        }
    }

    #[test]
    fn others_record_while_an_export_waits() {
        let trace = Trace::new(0, "dp0".into());
        let behind = || Box::new(Behind(trace.clone()));
        trace.between(Track::group("pp"), "send", behind(), behind(), 8);
        assert_eq!(events(&trace).iter().map(times).collect::<Vec<_>>(), ["send 5–5"]);
        assert_eq!(events(&trace).len(), 3);
    }
}
