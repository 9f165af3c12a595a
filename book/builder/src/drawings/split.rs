//! Tensor parallelism: which part of the two matrices of a feed-forward half each rank holds.

use super::canvas::{At, Canvas};

const RANKS: [(&str, f64); 2] = [("tp0", 128.0), ("tp1", 392.0)];
const HALF: f64 = 112.0;

pub fn svg() -> String {
    let desc = "Two ranks hold the same x. Of the gate and up matrices, split by their outputs, rank \
                tp0 holds the first half of the rows and rank tp1 the last; each makes its half of \
                the features. Of the down matrix, split by its inputs, each holds the columns that \
                read its own features, and so computes a part of every number of y. An all-reduce \
                adds the parts, and both ranks hold the same y.";
    let mut c = Canvas::new(520.0, 518.0, "A column-parallel and a row-parallel matrix", desc);
    c.text(260.0, 16.0, At::Middle, "strong", "the same x on both ranks");
    for (i, (name, x)) in RANKS.into_iter().enumerate() {
        c.rect(x - HALF - 10.0, 28.0, 2.0 * HALF + 20.0, 382.0, "frame");
        c.text(x - HALF, 50.0, At::Start, "mono strong", name);
        c.labelled((x - 72.0, 38.0, 144.0, 28.0), "plain", "x");
        c.arrow(&[(x - 64.0, 66.0), (x - 64.0, 92.0)], "wire");
        // [out, in], of which the rank holds some rows.
        held(&mut c, (x - HALF, 92.0, 96.0, 112.0), i, true);
        note(&mut c, x, 128.0, &["gate, up:", "half of the", "outputs"]);
        c.arrow(&[(x - 64.0, 204.0), (x - 64.0, 230.0)], "wire");
        held(&mut c, (x - HALF, 230.0, 2.0 * HALF, 28.0), i, false);
        c.text(x - 48.0, 278.0, At::Start, "small", "its half of the features");
        c.arrow(&[(x - 64.0, 258.0), (x - 64.0, 290.0)], "wire");
        // [out, in], of which the rank holds some columns.
        held(&mut c, (x - HALF, 290.0, 112.0, 72.0), i, false);
        note(&mut c, x + 16.0, 312.0, &["down:", "half of the", "inputs"]);
        c.arrow(&[(x - 64.0, 362.0), (x - 64.0, 376.0)], "wire");
        c.labelled((x - HALF, 376.0, 2.0 * HALF, 28.0), "tp", "a part of the sum y");
        c.arrow(&[(x, 404.0), (x, 428.0)], "wire");
        c.arrow(&[(x, 462.0), (x, 484.0)], "wire");
    }
    c.rect(6.0, 428.0, 508.0, 34.0, "tp solid");
    c.text(260.0, 450.0, At::Middle, "on", "all-reduce: every rank gets the sum");
    c.text(260.0, 504.0, At::Middle, "strong", "the same y on both ranks");
    c.finish()
}

/// The outline of a whole, and in it the half that rank `i` holds: top or bottom where it is rows,
/// left or right where it is columns.
fn held(c: &mut Canvas, (x, y, w, h): (f64, f64, f64, f64), i: usize, rows: bool) {
    c.rect(x, y, w, h, "idle");
    let (dx, dy) = if rows { (0.0, h / 2.0) } else { (w / 2.0, 0.0) };
    let at = i as f64;
    c.rect(x + at * dx, y + at * dy, w - dx, h - dy, "tp solid");
}

fn note(c: &mut Canvas, x: f64, y: f64, lines: &[&str]) {
    for (i, line) in lines.iter().enumerate() {
        c.text(x, y + 19.0 * i as f64, At::Start, "small", line);
    }
}
