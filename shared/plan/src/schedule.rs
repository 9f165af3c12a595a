//! The passes of a pipeline on paper: when each begins, and when its message arrives.

/// The shares of a stage's time for a micro-batch, forward and backward: a backward pass has two
/// products for each one of a forward pass.
const SHARES: [f64; 2] = [1.0 / 3.0, 2.0 / 3.0];

/// The pass that a stage makes `turn`-th, of `m` micro-batches, where forward passes run `ahead` of
/// backward ones: whether it is a backward one, and of which micro-batch.
pub fn pass(ahead: usize, m: usize, turn: usize) -> (bool, usize) {
    let in_turns = 2 * (m - ahead); // a backward and a forward pass
    match turn.checked_sub(ahead) {
        None => (false, turn),
        Some(i) if i >= in_turns => (true, i - (m - ahead)),
        Some(i) if i % 2 == 0 => (true, i / 2),
        Some(i) => (false, ahead + i / 2),
    }
}

/// Seconds until all stages are done. On stage s forward passes run `ahead[s]` of backward ones, and a
/// micro-batch takes `busy[s]`; a message between s and s + 1 takes `hops[s]`. Messages travel beside
/// passes, those of one border and direction one after the other. A pass waits for its input and for the
/// pass before it, as in `pipeline_parallel.rs`. (There a gradient sets out only after the forward pass in front of
/// it. Equal stages lose a ninth of what messages cost, with four of them, and less with more.)
pub fn walk(ahead: &[usize], m: usize, busy: &[f64], hops: &[f64]) -> f64 {
    let stages = busy.len();
    // When the input of each pass arrives, by stage and micro-batch: for forward, for backward
    // passes.
    let mut come = [0, 1].map(|_| vec![vec![None::<f64>; m]; stages]);
    come[0][0].fill(Some(0.0));
    come[1][stages - 1].fill(Some(0.0)); // its own loss
    let (mut free, mut turns) = (vec![0.0f64; stages], vec![0; stages]);
    while turns.iter().any(|&turn| turn < 2 * m) {
        let before = turns.clone();
        for stage in 0..stages {
            while turns[stage] < 2 * m {
                let (backward, i) = pass(ahead[stage], m, turns[stage]);
                let way = usize::from(backward);
                let Some(input) = come[way][stage][i] else { break };
                free[stage] = input.max(free[stage]) + busy[stage] * SHARES[way];
                turns[stage] += 1;
                let next = if backward { stage.checked_sub(1) } else { Some(stage + 1) };
                if let Some(next) = next.filter(|&next| next < stages) {
                    let link = i.checked_sub(1).and_then(|i| come[way][next][i]).unwrap_or(0.0);
                    come[way][next][i] = Some(free[stage].max(link) + hops[stage.min(next)]);
                }
            }
        }
        assert_ne!(turns, before, "every stage waits for another");
    }
    free.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds that messages of `hop` seconds add to a step of `p` equal stages, each busy for 3.
    fn messages(afab: bool, p: usize, m: usize, hop: f64) -> f64 {
        let ahead: Vec<usize> = (0..p).map(|s| if afab { m } else { m.min(p - s) }).collect();
        let walk = |hop| walk(&ahead, m, &vec![3.0; p], &vec![hop; p - 1]);
        close(walk(0.0), 3.0 * (m + p - 1) as f64);
        walk(hop) - walk(0.0)
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn messages_cost_all_forward_all_backward_one_way_through_the_stages_and_back() {
        for (p, m) in [(2, 2), (4, 64), (16, 128)] {
            close(messages(true, p, m, 0.1), 2.0 * (p - 1) as f64 * 0.1);
        }
    }

    /// Stage s has p − s micro-batches under way, and each needs 2(p − s − 1) messages from the start of
    /// its forward pass to the end of its backward one. Stage 0 thus waits 2(p − 1)/p messages for each.
    #[test]
    fn messages_cost_one_forward_one_backward_some_for_each_micro_batch() {
        for p in [2, 4, 8, 16] {
            let more = messages(false, p, 20 * p, 0.1) - messages(false, p, 10 * p, 0.1);
            close(more / (10 * p) as f64, 0.1 * 2.0 * (p - 1) as f64 / p as f64);
        }
    }

    #[test]
    fn messages_of_one_border_and_direction_travel_one_after_the_other() {
        // Slower than passes, they set the pace: 1 forward, ten messages of 5, and back in the same way.
        close(messages(true, 2, 10, 5.0), 2.0 * (1.0 + 10.0 * 5.0 + 2.0) - 33.0);
    }
}
