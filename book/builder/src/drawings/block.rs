//! One block of a Llama, with the shapes between its parts.

use super::canvas::{At, Canvas};

const MIDDLE: f64 = 210.0;

pub fn svg() -> String {
    let desc = "A block takes x of shape batch by sequence by hidden. First half: RMSNorm, the \
                projections q, k and v, rotary positions on q and k, causal attention, the output \
                projection; its result is added to x. Second half: RMSNorm, the projections gate \
                and up, SiLU of gate times up, the down projection; its result is added again.";
    let mut c = Canvas::new(520.0, 652.0, "A Llama block", desc);
    c.text(MIDDLE, 16.0, At::Middle, "strong", "x");
    shape(&mut c, 16.0, "[batch, seq, hidden]");
    arrow(&mut c, MIDDLE, 22.0, 52.0);
    bypass(&mut c, 32.0, 313.0);
    wide(&mut c, 52.0, "RMSNorm");
    fan(&mut c, 84.0, 104.0, &[-92.0, 0.0, 92.0]);
    for (dx, name) in [(-92.0, "q_proj"), (0.0, "k_proj"), (92.0, "v_proj")] {
        part(&mut c, MIDDLE + dx, 104.0, name);
    }
    shape(&mut c, 125.0, "[batch, seq, heads, head]");
    arrow(&mut c, MIDDLE - 92.0, 136.0, 156.0);
    arrow(&mut c, MIDDLE, 136.0, 156.0);
    c.labelled((MIDDLE - 132.0, 156.0, 172.0, 32.0), "plain", "rotary positions");
    arrow(&mut c, MIDDLE - 92.0, 188.0, 208.0);
    arrow(&mut c, MIDDLE, 188.0, 208.0);
    arrow(&mut c, MIDDLE + 92.0, 136.0, 208.0);
    wide(&mut c, 208.0, "causal attention");
    shape(&mut c, 229.0, "softmax(q·kᵀ/√head)·v");
    arrow(&mut c, MIDDLE, 240.0, 260.0);
    part(&mut c, MIDDLE, 260.0, "o_proj");
    shape(&mut c, 281.0, "[batch, seq, hidden]");
    arrow(&mut c, MIDDLE, 292.0, 303.0);
    plus(&mut c, 313.0);
    arrow(&mut c, MIDDLE, 323.0, 362.0);
    bypass(&mut c, 336.0, 601.0);
    wide(&mut c, 362.0, "RMSNorm");
    fan(&mut c, 394.0, 414.0, &[-60.0, 60.0]);
    part(&mut c, MIDDLE - 60.0, 414.0, "gate_proj");
    part(&mut c, MIDDLE + 60.0, 414.0, "up_proj");
    shape(&mut c, 435.0, "[batch, seq, intermediate]");
    arrow(&mut c, MIDDLE - 60.0, 446.0, 470.0);
    arrow(&mut c, MIDDLE + 60.0, 446.0, 470.0);
    wide(&mut c, 470.0, "SiLU(gate) × up");
    arrow(&mut c, MIDDLE, 502.0, 528.0);
    part(&mut c, MIDDLE, 528.0, "down_proj");
    shape(&mut c, 549.0, "[batch, seq, hidden]");
    arrow(&mut c, MIDDLE, 560.0, 591.0);
    plus(&mut c, 601.0);
    arrow(&mut c, MIDDLE, 611.0, 640.0);
    c.text(MIDDLE + 14.0, 640.0, At::Start, "small", "to the next block");
    c.finish()
}

/// A box over the whole width: a part without weights, or with a vector of them.
fn wide(c: &mut Canvas, y: f64, text: &str) {
    c.labelled((MIDDLE - 132.0, y, 264.0, 32.0), "plain", text);
}

/// A matrix of weights.
fn part(c: &mut Canvas, x: f64, y: f64, text: &str) {
    c.labelled((x - 42.0, y, 84.0, 32.0), "plain solid", "");
    c.text(x, y + 21.0, At::Middle, "mono small on", text);
}

fn shape(c: &mut Canvas, y: f64, text: &str) {
    c.text(356.0, y, At::Start, "small faint", text);
}

fn arrow(c: &mut Canvas, x: f64, from: f64, to: f64) {
    c.arrow(&[(x, from), (x, to)], "wire");
}

fn fan(c: &mut Canvas, from: f64, to: f64, offsets: &[f64]) {
    for dx in offsets {
        arrow(c, MIDDLE + dx, from, to);
    }
}

fn plus(c: &mut Canvas, y: f64) {
    c.circle(MIDDLE, y, 10.0, "plain");
    c.text(MIDDLE, y + 5.5, At::Middle, "strong", "+");
}

/// The residual: round the left of the half-block and into its sum.
fn bypass(c: &mut Canvas, from: f64, to: f64) {
    let left = MIDDLE - 160.0;
    c.arrow(&[(MIDDLE, from), (left, from), (left, to), (MIDDLE - 11.0, to)], "wire");
}
