//! When a line is printed where output is no terminal, and how long the run will still take.

use std::time::{Duration, Instant};

/// Between two lines of a run that is not told `log_every`: a log of a week is to be read.
const PAUSE: Duration = Duration::from_secs(10);

pub(crate) struct Pace {
    steps: usize,
    every: Option<usize>,
    /// The first step of this run, and when it was done: the steps after it say how fast it goes.
    /// (It is itself slower, for caches and allocators are cold.)
    first: Option<(usize, Instant)>,
    started: Instant,
    printed: Instant,
}

impl Pace {
    /// Of a run that starts `now`, and prints every so many steps; `None`: every ten seconds.
    pub fn new(steps: usize, every: Option<usize>, now: Instant) -> Self {
        Self { steps, every, first: None, started: now, printed: now }
    }

    /// Whether the line of `step`, which is done `now`, is to be printed. That of the first step
    /// and of the last one always is.
    pub fn is_due(&mut self, step: usize, now: Instant) -> bool {
        let is_first = self.first.is_none();
        self.first.get_or_insert((step, now));
        let due = match self.every {
            Some(every) => step.is_multiple_of(every),
            None => now - self.printed >= PAUSE,
        };
        let due = due || is_first || step == self.steps;
        if due {
            self.printed = now;
        }
        due
    }

    /// How long the steps after `step` will take, if they are as fast as those so far, with all
    /// that goes on between them.
    pub fn left(&self, step: usize, now: Instant) -> Duration {
        let left = self.steps.saturating_sub(step) as f64;
        let each = match self.first {
            Some((first, at)) if step > first => (now - at).as_secs_f64() / (step - first) as f64,
            _ => (now - self.started).as_secs_f64(),
        };
        Duration::from_secs_f64((left * each).min(1e12))
    }
}

/// In the one unit that suits it, such as `12 min`.
pub(crate) fn shown(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (unit, name) = match seconds {
        ..90.0 => (1.0, "s"),
        ..5400.0 => (60.0, "min"),
        ..172_800.0 => (3600.0, "h"),
        _ => (86_400.0, "days"),
    };
    let count = seconds / unit;
    let digits = usize::from(unit > 1.0 && count < 10.0);
    format!("{count:.digits$} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps whose lines are printed, of a run whose steps take so many seconds each.
    fn printed(every: Option<usize>, seconds: &[u64]) -> Vec<usize> {
        let start = Instant::now();
        let mut pace = Pace::new(seconds.len(), every, start);
        let mut now = start;
        let mut due = |(step, &seconds): (usize, &u64)| {
            now += Duration::from_secs(seconds);
            pace.is_due(step, now)
        };
        (1..).zip(seconds).filter(|&step| due(step)).map(|(step, _)| step).collect()
    }

    #[test]
    fn a_line_is_printed_every_ten_seconds_and_for_the_first_step_and_the_last() {
        assert_eq!(printed(None, &[1; 25]), [1, 11, 21, 25]);
        assert_eq!(printed(None, &[30; 3]), [1, 2, 3]);
        assert_eq!(printed(None, &[4, 4, 4, 4, 1, 1]), [1, 4, 6]);
        assert_eq!(printed(Some(10), &[1; 25]), [1, 10, 20, 25]);
        assert_eq!(printed(Some(1), &[0; 4]), [1, 2, 3, 4]);
    }

    #[test]
    fn the_time_left_is_that_of_the_steps_after_the_first() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = Pace::new(100, None, start);
        pace.is_due(51, start + 20 * second); // of a run that goes on after step 50
        assert_eq!(
            pace.left(51, start + 20 * second),
            49 * 20 * second,
            "one step is all it knows"
        );
        pace.is_due(61, start + 50 * second);
        assert_eq!(pace.left(61, start + 50 * second), 39 * 3 * second);
        assert_eq!(pace.left(100, start + 60 * second), Duration::ZERO);
    }

    #[test]
    fn a_time_is_shown_in_the_unit_that_suits_it() {
        let shown = |seconds: f64| shown(Duration::from_secs_f64(seconds));
        let cases = [(0.0, "0 s"), (59.6, "60 s"), (150.0, "2.5 min"), (3540.0, "59 min")];
        for (seconds, text) in cases {
            assert_eq!(shown(seconds), text);
        }
        assert_eq!((shown(5400.0), shown(36_000.0)), ("1.5 h".into(), "10 h".into()));
        assert_eq!(shown(777_600.0), "9.0 days");
    }
}
