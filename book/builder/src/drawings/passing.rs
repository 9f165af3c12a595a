//! Ring attention: the way of one block of keys and values, and of its gradient behind it.

use super::canvas::{At, Canvas};

const RANKS: usize = 4;
const LEFT: f64 = 44.0;
const COLUMN: f64 = 96.0;
const ROW: f64 = 58.0;
const BOX: (f64, f64) = (76.0, 32.0);

pub fn svg() -> String {
    let desc = "Time runs to the right. In the forward pass the block of keys and values of rank 0 is on \
                rank 0 at hop 0, on rank 1 at hop 1, on rank 2 at hop 2 and on rank 3 at hop 3. In the \
                backward pass rank 1 begins with it, because it has kept it; then it goes to rank 2 and to \
                rank 3. Its gradient starts on rank 1 and follows: to rank 2, to rank 3, and then home to \
                rank 0. While it travels home, each rank attends to its own block.";
    let panel = 52.0 + ROW * RANKS as f64;
    let mut c = Canvas::new(520.0, 2.0 * panel + 14.0, "A block on its way around the ring", desc);
    for (top, backward) in [(0.0, false), (panel + 14.0, true)] {
        let title = if backward { "backward" } else { "forward" };
        c.text(2.0, top + 18.0, At::Start, "strong", title);
        // A rank begins with its own block in the forward pass, and ends with it in
        // the backward pass.
        let first = usize::from(backward);
        for column in 0..RANKS {
            let title = if first + column < RANKS {
                format!("hop {}", first + column)
            } else {
                "own".into()
            };
            heading(&mut c, top, column, &title);
        }
        if backward {
            heading(&mut c, top, RANKS, "end");
        }
        for rank in 0..RANKS {
            let (_, y) = middle(top, rank, 0);
            c.text(2.0, y + 5.0, At::Start, "mono small", &format!("cp{rank}"));
            for column in 0..RANKS {
                let (x, y) = middle(top, rank, column);
                let from = (rank + 2 * RANKS - first - column) % RANKS;
                block(&mut c, (x, y), from == 0, &format!("K V {from}"));
                if from == 0 && column > 0 && rank > 0 {
                    let (x0, y0) = middle(top, rank - 1, column - 1);
                    c.arrow(&[(x0 + 32.0, y0 + 16.0), (x - 8.0, y - 16.0)], "wire");
                }
            }
        }
        if backward {
            gradient(&mut c, top);
        }
    }
    c.finish()
}

/// The gradient of block 0, beside its block and one hop behind on its way.
fn gradient(c: &mut Canvas, top: f64) {
    for rank in 2..RANKS {
        let ((x0, y0), (x, y)) = (middle(top, rank - 1, rank - 2), middle(top, rank, rank - 1));
        c.arrow(&[(x0 + 6.0, y0 + 16.0), (x - 34.0, y - 16.0)], "wire dashed");
    }
    // Home, below the last rank's own block.
    let ((x0, y0), (x, y)) = (middle(top, RANKS - 1, RANKS - 2), middle(top, 0, RANKS));
    c.arrow(&[(x0, y0 + 16.0), (x0, y0 + 27.0), (x, y0 + 27.0), (x, y + 16.0)], "wire dashed");
    block(c, (x, y), true, "dK dV 0");
}

fn block(c: &mut Canvas, (x, y): (f64, f64), followed: bool, text: &str) {
    let place = (x - BOX.0 / 2.0, y - BOX.1 / 2.0, BOX.0, BOX.1);
    if followed {
        c.rect(place.0, place.1, place.2, place.3, "cp solid");
        c.text(x, y + 5.0, At::Middle, "small on", text);
    } else {
        c.rect(place.0, place.1, place.2, place.3, "cp");
        c.text(x, y + 5.0, At::Middle, "small", text);
    }
}

fn heading(c: &mut Canvas, top: f64, column: usize, text: &str) {
    let (x, _) = middle(top, 0, column);
    c.text(x, top + 40.0, At::Middle, "small faint", text);
}

/// The middle of a rank's box in a column.
fn middle(top: f64, rank: usize, column: usize) -> (f64, f64) {
    (LEFT + BOX.0 / 2.0 + COLUMN * column as f64, top + 66.0 + ROW * rank as f64)
}
