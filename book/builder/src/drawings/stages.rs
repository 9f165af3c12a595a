//! Pipeline parallelism: two stages, and what crosses between them.

use super::canvas::{At, Canvas};

const STAGES: [(&str, f64, [&str; 4]); 2] = [
    ("pp0", 15.0, ["tokens", "embedding", "layer 0", "layer 1"]),
    ("pp1", 335.0, ["layer 2", "layer 3", "norm, head", "loss"]),
];
const WIDTH: f64 = 170.0;

pub fn svg() -> String {
    let desc = "Stage 0 holds the embedding and layers 0 and 1, stage 1 layers 2 and 3, the last norm \
                and the head, and computes the loss. For every micro-batch activations of batch × \
                sequence × hidden numbers go from stage 0 to stage 1, and their gradient, as large, \
                comes back.";
    let mut c = Canvas::new(520.0, 232.0, "Two pipeline stages", desc);
    for (name, x, parts) in STAGES {
        c.rect(x, 8.0, WIDTH, 214.0, "frame");
        c.text(x + 12.0, 28.0, At::Start, "mono strong", name);
        for (i, part) in parts.into_iter().enumerate() {
            let y = 40.0 + 45.0 * i as f64;
            let class = if matches!(part, "tokens" | "loss") { "plain" } else { "pp" };
            c.labelled((x + 12.0, y, WIDTH - 24.0, 32.0), class, part);
            if i > 0 {
                c.arrow(&[(x + WIDTH / 2.0, y - 13.0), (x + WIDTH / 2.0, y)], "wire");
            }
        }
    }
    c.text(260.0, 42.0, At::Middle, "", "activations");
    c.arrow(&[(173.0, 191.0), (206.0, 191.0), (206.0, 56.0), (347.0, 56.0)], "wire");
    c.text(270.0, 136.0, At::Middle, "", "gradients");
    c.arrow(&[(335.0, 150.0), (185.0, 150.0)], "wire dashed");
    c.finish()
}
