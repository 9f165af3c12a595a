//! Where a training step's time goes with naive and with overlapped gradient synchronisation.
//! Drawn to the scale of assumed durations, which the drawing states.

use super::canvas::{At, Canvas};

/// Units of time: forward, backward, all-reduce of everything, optimiser.
const FORWARD: f64 = 3.0;
const BACKWARD: f64 = 6.0;
const REDUCE: f64 = 4.0;
const UPDATE: f64 = 1.0;
const BUCKETS: usize = 4;

/// When each bucket's all-reduce starts and ends: once its share of the backward pass is done and
/// the one before it is through.
fn buckets() -> Vec<(f64, f64)> {
    let mut free: f64 = 0.0;
    (1..=BUCKETS)
        .map(|i| {
            let ready = FORWARD + BACKWARD * i as f64 / BUCKETS as f64;
            let start = ready.max(free);
            free = start + REDUCE / BUCKETS as f64;
            (start, free)
        })
        .collect()
}

pub fn svg() -> String {
    let desc = "Two time lines. Naive: forward, backward, then an all-reduce during which nothing is \
                computed, then the update. Overlapped: four buckets are reduced while the backward \
                pass still runs; only the last bucket's reduction is waited for, and the step ends \
                earlier.";
    let mut c = Canvas::new(520.0, 268.0, "A training step, naive and overlapped", desc);
    let scale = 430.0 / (FORWARD + BACKWARD + REDUCE + UPDATE);
    let x = |time: f64| 86.0 + time * scale;
    let bar = |c: &mut Canvas, y: f64, from: f64, to: f64, class: &str, text: &str| {
        c.labelled((x(from), y, (to - from) * scale - 2.0, 30.0), class, text);
    };
    let back = FORWARD + BACKWARD;

    c.text(2.0, 18.0, At::Start, "strong", "naive: all-reduce after the backward pass");
    c.text(78.0, 50.0, At::End, "small", "compute");
    c.text(78.0, 86.0, At::End, "small", "network");
    bar(&mut c, 30.0, 0.0, FORWARD, "plain", "forward");
    bar(&mut c, 30.0, FORWARD, back, "plain", "backward");
    bar(&mut c, 30.0, back, back + REDUCE, "idle", "waits");
    bar(&mut c, 30.0, back + REDUCE, back + REDUCE + UPDATE, "plain", "");
    bar(&mut c, 66.0, back, back + REDUCE, "dp solid", "");
    c.text(x(back + REDUCE / 2.0), 86.0, At::Middle, "on", "all-reduce");

    c.text(2.0, 136.0, At::Start, "strong", "overlapped: a bucket leaves when it is ready");
    c.text(78.0, 168.0, At::End, "small", "compute");
    c.text(78.0, 204.0, At::End, "small", "network");
    bar(&mut c, 148.0, 0.0, FORWARD, "plain", "forward");
    bar(&mut c, 148.0, FORWARD, back, "plain", "backward");
    let buckets = buckets();
    let done = buckets[BUCKETS - 1].1;
    bar(&mut c, 148.0, back, done, "idle", "");
    bar(&mut c, 148.0, done, done + UPDATE, "plain", "");
    for (i, (start, end)) in buckets.iter().enumerate() {
        bar(&mut c, 184.0, *start, *end, "dp solid", "");
        c.text((x(*start) + x(*end)) / 2.0 - 1.0, 204.0, At::Middle, "small on", &format!("b{i}"));
    }
    let saved = (x(done + UPDATE), x(back + REDUCE + UPDATE));
    c.line(&[(saved.0, 148.0), (saved.0, 230.0)], "wire dashed");
    c.line(&[(saved.1, 30.0), (saved.1, 230.0)], "wire dashed");
    c.arrow(&[(saved.1, 224.0), (saved.0 + 1.0, 224.0)], "wire");
    c.text((saved.0 + saved.1) / 2.0, 218.0, At::Middle, "small", "saved");
    let scale = format!(
        "Drawn for forward {FORWARD}, backward {BACKWARD}, all-reduce {REDUCE}, update {UPDATE} \
         units of time; {BUCKETS} buckets."
    );
    c.text(2.0, 260.0, At::Start, "small faint", &scale);
    c.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_bucket_is_waited_for_when_the_network_keeps_up() {
        let last = buckets()[BUCKETS - 1];
        assert_eq!(last, (FORWARD + BACKWARD, FORWARD + BACKWARD + REDUCE / BUCKETS as f64));
    }
}
