//! Sixteen ranks on two nodes: which of their groups stay inside one.

use super::canvas::{At, Canvas};

const TP: usize = 4;
const PP: usize = 2;
/// Top edges of the two nodes' frames, and left edges of the stages in a node.
const NODES: [f64; 2] = [8.0, 214.0];
const STAGES: [f64; PP] = [14.0, 284.0];
const HEIGHT: f64 = 134.0;
const GPU: f64 = 48.0;

/// The left edge of the GPU of a stage's rank `tp`.
fn left(pp: usize, tp: usize) -> f64 {
    STAGES[pp] + 6.0 + 54.0 * tp as f64
}

pub fn svg() -> String {
    let desc = "Two nodes of eight GPUs. Node 0 has ranks 0 to 7: 0 to 3 are stage pp0 and a tp group, \
                4 to 7 are stage pp1 and another; between the two stages run the pipeline's messages. \
                Together they are replica dp0. Node 1 has ranks 8 to 15 in the same places: replica \
                dp1. Each rank forms a dp group with the one that is eight further, in the other node, \
                and only the messages of these groups cross the network.";
    let mut c = Canvas::new(520.0, 356.0, "Sixteen ranks on two nodes", desc);
    for (dp, y) in NODES.into_iter().enumerate() {
        c.rect(6.0, y, 508.0, HEIGHT, "frame");
        c.text(16.0, y + 21.0, At::Start, "strong", &format!("node {dp}"));
        c.text(504.0, y + 21.0, At::End, "", &format!("one replica: dp{dp}"));
        for (pp, x) in STAGES.into_iter().enumerate() {
            c.rect(x, y + 30.0, 222.0, 96.0, "tp");
            c.text(x + 8.0, y + 48.0, At::Start, "small", &format!("stage pp{pp}, one tp group"));
            for tp in 0..TP {
                let (x, rank) = (left(pp, tp), (dp * PP + pp) * TP + tp);
                c.rect(x, y + 58.0, GPU, 60.0, "blank");
                c.text(x + GPU / 2.0, y + 83.0, At::Middle, "strong", &rank.to_string());
                c.text(x + GPU / 2.0, y + 106.0, At::Middle, "small faint", &format!("tp{tp}"));
            }
        }
        c.rect(244.0, y + 76.0, 32.0, 24.0, "pp solid");
        c.text(260.0, y + 93.0, At::Middle, "small on", "pp");
        // Activations to the right, gradients to the left.
        c.arrow(&[(240.0, y + 68.0), (280.0, y + 68.0)], "wire");
        c.arrow(&[(280.0, y + 108.0), (240.0, y + 108.0)], "wire");
    }
    let (above, below) = (NODES[0] + HEIGHT, NODES[1]);
    let middle = (above + below) / 2.0;
    for pp in 0..PP {
        for tp in 0..TP {
            let x = left(pp, tp) + GPU / 2.0;
            c.arrow(&[(x, middle - 12.0), (x, above + 2.0)], "wire");
            c.arrow(&[(x, middle + 12.0), (x, below - 2.0)], "wire");
            c.rect(x - 16.0, middle - 12.0, 32.0, 24.0, "dp solid");
            c.text(x, middle + 5.0, At::Middle, "small on", "dp");
        }
    }
    c.text(260.0, middle + 5.0, At::Middle, "small", "network");
    c.finish()
}
