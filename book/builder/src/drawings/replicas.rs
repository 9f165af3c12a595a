//! Data parallelism: one global batch, two replicas, one sum of gradients.

use super::canvas::{At, Canvas};

const REPLICAS: [(&str, f64); 2] = [("dp0", 130.0), ("dp1", 390.0)];
const HALF: f64 = 105.0;

pub fn svg() -> String {
    let desc = "The global batch of G sequences is cut into two halves, one for each replica. Each \
                replica holds all weights, runs forward and backward on its half and has its own \
                gradients. An all-reduce sums them, so both replicas take the same optimiser step \
                and their weights stay the same bits.";
    let mut c = Canvas::new(520.0, 412.0, "Two data-parallel replicas", desc);
    c.text(260.0, 16.0, At::Middle, "strong", "global batch: G sequences");
    c.rect(25.0, 26.0, 210.0, 32.0, "dp");
    c.rect(285.0, 26.0, 210.0, 32.0, "dp");
    c.line(&[(235.0, 42.0), (285.0, 42.0)], "wire dashed");
    for (i, (name, x)) in REPLICAS.into_iter().enumerate() {
        let half = if i == 0 { "first G/2" } else { "last G/2" };
        c.text(x, 47.0, At::Middle, "", half);
        c.arrow(&[(x, 58.0), (x, 88.0)], "wire");
        c.rect(x - HALF - 10.0, 88.0, 2.0 * HALF + 20.0, 148.0, "frame");
        c.text(x - HALF, 108.0, At::Start, "mono strong", name);
        c.labelled((x - HALF, 118.0, 2.0 * HALF, 32.0), "plain", "all weights");
        c.labelled((x - HALF, 156.0, 2.0 * HALF, 32.0), "plain", "forward, backward");
        c.labelled((x - HALF, 194.0, 2.0 * HALF, 32.0), "dp", "gradients of its half");
        c.arrow(&[(x, 236.0), (x, 264.0)], "wire");
        c.arrow(&[(x, 300.0), (x, 330.0)], "wire");
        c.labelled((x - HALF, 330.0, 2.0 * HALF, 32.0), "plain", "AdamW step");
    }
    c.rect(15.0, 264.0, 490.0, 36.0, "dp solid");
    c.text(260.0, 287.0, At::Middle, "on", "all-reduce: every replica gets the sum");
    c.text(260.0, 394.0, At::Middle, "", "the same weights on both, bit for bit");
    c.finish()
}
