//! A ring all-reduce of four ranks, state by state, computed by the rule the ring itself follows.

use super::canvas::{At, Canvas};

const N: usize = 4;
const CELL: f64 = 26.0;
const ROW: f64 = 40.0;
const PANEL: (f64, f64) = (172.0, 222.0);

/// How many ranks' shares each rank's copy of each chunk holds, and which chunk it just received.
#[derive(Clone)]
struct State {
    shares: [[usize; N]; N],
    received: [Option<usize>; N],
}

/// The states of an all-reduce: the start, then one after each of its 2(N-1) steps.
///
/// Reduce-scatter, step s from 1: rank r sends chunk r-s to rank r+1, which adds it to its own.
/// All-gather, step s from 0: rank r sends chunk r-s, which is complete and replaces the other.
fn states() -> Vec<State> {
    let mut states = vec![State { shares: [[1; N]; N], received: [None; N] }];
    for step in 0..2 * (N - 1) {
        let reducing = step < N - 1;
        let s = if reducing { step + 1 } else { step - (N - 1) };
        let before = states[step].clone();
        let mut after = before.clone();
        for rank in 0..N {
            let (to, chunk) = ((rank + 1) % N, (rank + N - s) % N);
            let sent = before.shares[rank][chunk];
            after.shares[to][chunk] = if reducing { before.shares[to][chunk] + sent } else { sent };
            after.received[to] = Some(chunk);
        }
        states.push(after);
    }
    states
}

pub fn svg() -> String {
    let desc = "Four ranks hold four chunks each. In three reduce-scatter steps each rank sends one \
                chunk to the next rank, which adds it, until rank r holds chunk r complete. In three \
                all-gather steps the complete chunks go round, until every rank holds all four. Each \
                rank sends a quarter of the buffer six times: one and a half times its size.";
    let mut c = Canvas::new(520.0, 3.0 * PANEL.1, "Ring all-reduce of four ranks", desc);
    for (i, state) in states().iter().enumerate() {
        panel(&mut c, i, state);
    }
    let (x, y) = (PANEL.0 + 22.0, 2.0 * PANEL.1 + 62.0);
    let words = [
        ("strong", "Counting one rank's bytes"),
        ("", "reduce-scatter: 3 steps × S/4"),
        ("", "all-gather: 3 steps × S/4"),
        ("", "together: 6/4 · S = 1.5 S"),
        ("faint small", "The number in a cell says how many"),
        ("faint small", "ranks' shares its sum holds."),
    ];
    for (i, (class, text)) in words.into_iter().enumerate() {
        c.text(x, y + 25.0 * i as f64, At::Start, class, text);
    }
    c.finish()
}

fn panel(c: &mut Canvas, index: usize, state: &State) {
    let (left, top) = ((index % 3) as f64 * PANEL.0, (index / 3) as f64 * PANEL.1);
    let title = match index {
        0 => "start".to_owned(),
        i if i < N => format!("{i} · reduce-scatter"),
        i => format!("{i} · all-gather"),
    };
    c.text(left + 4.0, top + 16.0, At::Start, "strong", &title);
    let total =
        if index == 0 { "nothing sent".into() } else { format!("sent so far: {index}/4 · S") };
    c.text(left + 4.0, top + 34.0, At::Start, "small faint", &total);
    let (grid_x, grid_y) = (left + 30.0, top + 52.0);
    for rank in 0..N {
        let y = grid_y + rank as f64 * ROW;
        c.text(left + 4.0, y + 18.0, At::Start, "small mono", &format!("r{rank}"));
        for chunk in 0..N {
            let x = grid_x + chunk as f64 * CELL;
            let shares = state.shares[rank][chunk];
            let fresh = if state.received[rank] == Some(chunk) { " fresh" } else { "" };
            c.rect(x, y, CELL - 2.0, CELL - 2.0, &format!("dp fill{shares}{fresh}"));
            let on = if shares == N { "small strong on" } else { "small" };
            c.text(x + CELL / 2.0 - 1.0, y + 17.0, At::Middle, on, &shares.to_string());
            if !fresh.is_empty() {
                // From the rank above; the first rank hears from the last.
                let from = if rank == 0 { y - 12.0 } else { y - ROW + CELL - 1.0 };
                c.arrow(&[(x + 12.0, from), (x + 12.0, y - 1.0)], "wire");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_scatter_each_rank_owns_its_chunk_and_at_the_end_all() {
        let states = states();
        for rank in 0..N {
            assert_eq!(states[N - 1].shares[rank][rank], N);
        }
        assert_eq!(states[2 * (N - 1)].shares, [[N; N]; N]);
        assert_eq!(states.len() - 1, 6, "each step sends S/4: six of them are 1.5 S");
    }
}
