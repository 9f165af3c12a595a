//! When a GPU reached points in its queues, for traces.

use anyhow::Result;
use comm::sync::lock;
use gpu::{Event, Stream};
use report::{Clock, Mark};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// CUDA counts the milliseconds between two events in f32: after an hour in steps of a quarter of
/// one, within a second in steps of 60 ns. So no event is counted from one long before it.
const NEAR: f64 = 1000.0;

/// The clock of one GPU's compute stream, and of its other streams' marks.
#[derive(Clone)]
pub(crate) struct Times {
    ordinal: usize,
    near: Arc<Mutex<Moment<Event>>>,
}

/// A moment on the GPU's clock and on the host's.
struct Moment<E> {
    event: Arc<E>,
    /// Since the Unix epoch.
    ns: u64,
}

impl<E> Moment<E> {
    /// The nanoseconds of `event`, which by CUDA's count is `milliseconds` after this moment. This
    /// moment moves along, so that the next event is near it too.
    fn ns_of(&mut self, event: &Arc<E>, milliseconds: f64) -> u64 {
        let ns = self.ns.saturating_add_signed((milliseconds * 1e6) as i64);
        if milliseconds > NEAR {
            *self = Self { event: event.clone(), ns };
        }
        ns
    }
}

impl Moment<Event> {
    fn now(ordinal: usize) -> Result<Self> {
        let event = Arc::new(Stream::current(ordinal)?.record_timed()?);
        event.synchronize()?;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self { event, ns: since_epoch.map_or(0, |d| d.as_nanos() as u64) })
    }
}

impl Times {
    pub fn from_now(ordinal: usize) -> Result<Self> {
        Ok(Self { ordinal, near: Arc::new(Mutex::new(Moment::now(ordinal)?)) })
    }

    pub fn mark(&self, stream: &Stream) -> Result<Box<dyn Mark>> {
        let event = Arc::new(stream.record_timed()?);
        Ok(Box::new(Reached { event, near: self.near.clone() }))
    }
}

impl Clock for Times {
    fn start(&self) {
        // If this fails, so does the run elsewhere, and says why.
        if let Ok(now) = Moment::now(self.ordinal) {
            *lock(&self.near) = now;
        }
    }

    fn mark(&self) -> Box<dyn Mark> {
        let mark = Stream::current(self.ordinal).and_then(|stream| Times::mark(self, &stream));
        mark.unwrap_or_else(|_| Box::new(Nowhen))
    }
}

struct Reached {
    event: Arc<Event>,
    near: Arc<Mutex<Moment<Event>>>,
}

impl Mark for Reached {
    fn ns(&self) -> u64 {
        if self.event.synchronize().is_err() {
            return 0;
        }
        let mut near = lock(&self.near);
        let milliseconds = self.event.milliseconds_since(&near.event);
        milliseconds.map_or(0, |milliseconds| near.ns_of(&self.event, milliseconds))
    }
}

struct Nowhen;

impl Mark for Nowhen {
    fn ns(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_recording_tells_microseconds_until_its_end() {
        let epoch = 1_800_000_000_000_000_000; // ns
        let mut near = Moment { event: Arc::new(0.0), ns: epoch };
        let mut ns_at = |ms: f64| {
            let event = Arc::new(ms);
            let since = (*event - *near.event) as f32; // as CUDA counts
            near.ns_of(&event, f64::from(since)) - epoch
        };
        let hours = 3.0 * 3600.0 * 1e3; // ms
        for half_seconds in 0..(hours / 500.0) as u32 {
            ns_at(f64::from(half_seconds) * 500.0 + 0.123_456);
        }
        let (start, end) = (ns_at(hours), ns_at(hours + 0.010));
        assert!((end - start).abs_diff(10_000) < 200, "10 us are {} ns", end - start);
        assert!(start.abs_diff((hours * 1e6) as u64) < 100_000, "{start}");
    }
}
