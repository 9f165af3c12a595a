//! Sequence parallelism: what two tp ranks hold along a layer, before it and with it.

use super::canvas::{At, Canvas};

/// Middles of the two ranks' tensors, of each way.
const WAYS: [(&str, [f64; 2]); 2] =
    [("step 6", [176.0, 264.0]), ("sequence parallelism", [372.0, 460.0])];
const WIDTH: f64 = 64.0;
const HEIGHT: f64 = 32.0;

/// Which part of the numbers of a tensor each rank has: a row for each token, a column for each
/// feature.
#[derive(Clone, Copy)]
enum Held {
    All,
    Tokens,
    Features,
    /// All, for as long as the products read it.
    Passing,
}

/// What stands in a row: tensors, or what is sent; each before, and with sequence parallelism.
enum Row {
    Tensor([&'static str; 2], [(Held, &'static str); 2]),
    Sent(&'static str, [&'static str; 2]),
}

const WHOLE: &str = "[b, s, h]";
const MINE: &str = "[b, s/t, h]";
const RESIDUAL: [(Held, &str); 2] = [(Held::All, WHOLE), (Held::Tokens, MINE)];
const READ: [(Held, &str); 2] = [(Held::All, WHOLE), (Held::Passing, WHOLE)];
const FEATURES: [(Held, &str); 2] =
    [(Held::Features, "[b, s, h/t]"), (Held::Features, "[b, s, h/t]")];
const WIDE: [(Held, &str); 2] = [(Held::Features, "[b, s, i/t]"), (Held::Features, "[b, s, i/t]")];

const ROWS: [Row; 11] = [
    Row::Tensor(["x,", "and its norm"], RESIDUAL),
    Row::Sent("f", ["nothing", "all-gather"]),
    Row::Tensor(["read by", "q, k, v"], READ),
    Row::Tensor(["q, k, v,", "attention"], FEATURES),
    Row::Sent("g", ["all-reduce", "reduce-scatter"]),
    Row::Tensor(["x + …,", "and its norm"], RESIDUAL),
    Row::Sent("f", ["nothing", "all-gather"]),
    Row::Tensor(["read by", "gate, up"], READ),
    Row::Tensor(["gate, up,", "SiLU × up"], WIDE),
    Row::Sent("g", ["all-reduce", "reduce-scatter"]),
    Row::Tensor(["x + …", ""], RESIDUAL),
];

pub fn svg() -> String {
    let desc = "Two tp ranks along one layer, from top to bottom, in step 6 and with sequence \
                parallelism. In step 6 both ranks hold the residual and its norms whole, f sends \
                nothing, each holds its own features of q, k, v, attention, gate and up, and g is an \
                all-reduce. With sequence parallelism each rank holds half of the tokens of \
                residual and norms, f is an all-gather, whose result the products read and nobody \
                keeps, and g is a reduce-scatter. What is split by features is as before.";
    let tall = |row: &Row| if matches!(row, Row::Tensor(..)) { 66.0 } else { 42.0 };
    let height = 58.0 + ROWS.iter().map(tall).sum::<f64>();
    let mut c = Canvas::new(520.0, height, "What a tp rank holds along a layer", desc);
    for (way, ranks) in WAYS {
        c.text((ranks[0] + ranks[1]) / 2.0, 18.0, At::Middle, "strong", way);
        for (i, x) in ranks.into_iter().enumerate() {
            c.text(x, 40.0, At::Middle, "mono small", &format!("tp{i}"));
        }
    }
    let mut y = 54.0;
    for row in &ROWS {
        match row {
            Row::Tensor(names, held) => {
                for (i, name) in names.iter().enumerate() {
                    c.text(4.0, y + 14.0 + 19.0 * i as f64, At::Start, "", name);
                }
                for ((_, ranks), (held, shape)) in WAYS.into_iter().zip(held) {
                    for (i, x) in ranks.into_iter().enumerate() {
                        tensor(&mut c, (x - WIDTH / 2.0, y), i as f64, *held);
                    }
                    let middle = (ranks[0] + ranks[1]) / 2.0;
                    c.text(middle, y + HEIGHT + 17.0, At::Middle, "small faint", shape);
                }
            }
            Row::Sent(name, does) => {
                c.text(4.0, y + 20.0, At::Start, "mono strong", name);
                for ((_, ranks), does) in WAYS.into_iter().zip(does) {
                    let sends = *does != "nothing";
                    let (class, words) =
                        if sends { ("tp solid", "on") } else { ("idle", "small faint") };
                    let (left, right) = (ranks[0] - WIDTH / 2.0, ranks[1] + WIDTH / 2.0);
                    c.rect(left, y, right - left, 29.0, class);
                    c.text((left + right) / 2.0, y + 20.0, At::Middle, words, does);
                }
            }
        }
        y += tall(row);
    }
    c.finish()
}

/// The outline of the whole, and in it what rank `i` has: the upper or lower half of the tokens, the
/// left or right half of the features.
fn tensor(c: &mut Canvas, (x, y): (f64, f64), i: f64, held: Held) {
    let (half_w, half_h) = (WIDTH / 2.0, HEIGHT / 2.0);
    if matches!(held, Held::Tokens | Held::Features) {
        c.rect(x, y, WIDTH, HEIGHT, "idle");
    }
    match held {
        Held::All => c.rect(x, y, WIDTH, HEIGHT, "plain solid"),
        Held::Tokens => c.rect(x, y + i * half_h, WIDTH, half_h, "tp solid"),
        Held::Features => c.rect(x + i * half_w, y, half_w, HEIGHT, "tp solid"),
        Held::Passing => c.rect(x, y, WIDTH, HEIGHT, "tp"),
    }
}
