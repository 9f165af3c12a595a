//! Tensor parallelism: the sums of one layer, on the way forward and on the way back.

use super::canvas::{At, Canvas};

/// Middles of the two ways, and the width of their boxes.
const FORWARD: f64 = 180.0;
const BACKWARD: f64 = 408.0;
const WIDTH: f64 = 204.0;
const STEP: f64 = 42.0;

/// What stands in a row.
enum Row {
    /// Computed alike on every rank.
    Whole(&'static str),
    /// Of which each rank computes its part.
    Shared(&'static str),
    F,
    G,
}

const ROWS: [Row; 12] = [
    Row::Whole("RMSNorm"),
    Row::F,
    Row::Shared("q, k, v: column"),
    Row::Shared("attention, own heads"),
    Row::Shared("o: row"),
    Row::G,
    Row::Whole("+ residual, RMSNorm"),
    Row::F,
    Row::Shared("gate, up: column"),
    Row::Shared("down: row"),
    Row::G,
    Row::Whole("+ residual"),
];

pub fn svg() -> String {
    let desc = "The parts of one layer from top to bottom, forward in the left column and backward, \
                from bottom to top, in the right one. Operator f stands before q, k, v and before \
                gate and up: nothing forward, an all-reduce backward. Operator g stands behind the o \
                and down projections: an all-reduce forward, nothing backward. Norms and residual \
                are computed alike on every rank.";
    let height = 44.0 + STEP * ROWS.len() as f64;
    let mut c = Canvas::new(520.0, height, "The four sums of a layer", desc);
    c.text(FORWARD, 18.0, At::Middle, "strong", "forward ↓");
    c.text(BACKWARD, 18.0, At::Middle, "strong", "backward ↑");
    for (i, row) in ROWS.iter().enumerate() {
        let y = 32.0 + STEP * i as f64;
        let (forward, backward) = match row {
            Row::Whole(text) => (("plain", *text), ("plain", *text)),
            Row::Shared(text) => (("tp", *text), ("tp", *text)),
            Row::F => (("idle", "nothing"), ("tp solid", "all-reduce")),
            Row::G => (("tp solid", "all-reduce"), ("idle", "nothing")),
        };
        let name = match row {
            Row::F => "f",
            Row::G => "g",
            _ => "",
        };
        c.text(40.0, y + 20.0, At::Middle, "mono strong", name);
        part(&mut c, FORWARD, y, forward);
        part(&mut c, BACKWARD, y, backward);
        if i + 1 < ROWS.len() {
            c.arrow(&[(FORWARD, y + 30.0), (FORWARD, y + STEP)], "wire");
            c.arrow(&[(BACKWARD, y + STEP), (BACKWARD, y + 30.0)], "wire");
        }
    }
    c.finish()
}

fn part(c: &mut Canvas, x: f64, y: f64, (class, text): (&str, &str)) {
    c.rect(x - WIDTH / 2.0, y, WIDTH, 30.0, class);
    let words = match class {
        "tp solid" => "on",
        "idle" => "small faint",
        _ => "",
    };
    c.text(x, y + 20.0, At::Middle, words, text);
}
