//! Context parallelism: which rank computes which part of the causal triangle, for two ways of
//! dealing out positions.

use super::canvas::{At, Canvas};

const RANKS: usize = 4;
const POSITIONS: usize = 16;
const CELL: f64 = 14.0;
const LEFTS: [f64; 2] = [8.0, 284.0];
const TOP: f64 = 50.0;

/// The rank that has a position.
fn owner(zigzag: bool, position: usize) -> usize {
    if !zigzag {
        return position * RANKS / POSITIONS;
    }
    let piece = position * 2 * RANKS / POSITIONS;
    piece.min(2 * RANKS - 1 - piece)
}

/// How many pairs of query and key each rank computes.
fn work(zigzag: bool) -> [usize; RANKS] {
    let mut pairs = [0; RANKS];
    (0..POSITIONS).for_each(|query| pairs[owner(zigzag, query)] += query + 1);
    pairs
}

pub fn svg() -> String {
    let desc = "Two triangles of 16 queries, each of which attends to itself and every position before \
                it. The rows are coloured by the rank that has the query. Contiguous: rank 0 has the \
                first four positions, rank 3 the last four, and the ranks compute 10, 26, 42 and 58 \
                pairs. Zigzag: rank r has piece r of eight and piece 7 - r, and all compute 34 pairs.";
    let mut c = Canvas::new(520.0, 404.0, "The causal triangle by rank", desc);
    for (zigzag, left) in [(false, LEFTS[0]), (true, LEFTS[1])] {
        c.text(left, 18.0, At::Start, "strong", if zigzag { "zigzag" } else { "contiguous" });
        c.text(left, 40.0, At::Start, "small faint", "keys →   queries ↓");
        for query in 0..POSITIONS {
            let y = TOP + CELL * query as f64;
            let class = shade(owner(zigzag, query));
            for key in 0..=query {
                c.rect(left + CELL * key as f64, y, CELL - 2.0, CELL - 2.0, &class);
            }
        }
        let bottom = TOP + CELL * POSITIONS as f64 + 14.0;
        for (rank, pairs) in work(zigzag).into_iter().enumerate() {
            let y = bottom + 28.0 * rank as f64;
            c.text(left, y + 15.0, At::Start, "mono small", &format!("cp{rank}"));
            c.rect(left + 38.0, y, 2.3 * pairs as f64, 20.0, &shade(rank));
            let end = left + 46.0 + 2.3 * pairs as f64;
            c.text(end, y + 15.0, At::Start, "small", &format!("{pairs}"));
        }
    }
    c.finish()
}

/// Ranks are shades of one colour.
fn shade(rank: usize) -> String {
    format!("cp fill{}", rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_gives_every_rank_as_much() {
        assert_eq!(work(false), [10, 26, 42, 58]);
        assert_eq!(work(true), [34; RANKS]);
    }
}
