//! The passes of a pipeline on paper: when each begins, when its message arrives, and what is
//! kept meanwhile.

use report::Pass;

/// The shares of a stage's time for a micro-batch, forward and backward: a backward pass has two
/// products for each one of a forward pass.
const SHARES: [f64; 2] = [1.0 / 3.0, 2.0 / 3.0];

/// The most micro-batches whose activations are kept at one time: from the forward pass to the
/// backward one.
pub fn in_flight(passes: &[Pass]) -> u64 {
    let (mut kept, mut most) = (0, 0);
    for pass in passes {
        match pass {
            Pass::Forward(_) => kept += 1,
            Pass::Backward(_) => kept -= 1,
        }
        most = most.max(kept);
    }
    most
}

/// Seconds until all stages are done. Stage s makes `passes[s]` in this order, and a micro-batch
/// takes it `busy[s]`; a message between s and s + 1 takes `hops[s]`. Messages travel beside
/// passes, those of one border and direction one after the other. A pass waits for its input and
/// for the pass before it, as in `pipeline_parallel.rs`. (There a gradient sets out only after the
/// forward pass in front of it. Equal stages lose a ninth of what messages cost, with four of them,
/// and less with more.)
///
/// # Panics
/// If the lists never end, because every stage waits for another.
pub fn walk(passes: &[Vec<Pass>], busy: &[f64], hops: &[f64]) -> f64 {
    let (stages, m) = (passes.len(), passes[0].len() / 2);
    // When the input of each pass arrives, by stage and micro-batch: for forward, for backward
    // passes; and when the last message to each stage did.
    let mut come = [0, 1].map(|_| vec![vec![None::<f64>; m]; stages]);
    let mut last = [0, 1].map(|_| vec![0.0f64; stages]);
    come[0][0].fill(Some(0.0));
    come[1][stages - 1].fill(Some(0.0)); // its own loss
    let (mut free, mut turns) = (vec![0.0f64; stages], vec![0; stages]);
    while (0..stages).any(|stage| turns[stage] < passes[stage].len()) {
        let before = turns.clone();
        for stage in 0..stages {
            while let Some(&pass) = passes[stage].get(turns[stage]) {
                let (way, i, next) = match pass {
                    Pass::Forward(i) => (0, i, Some(stage + 1).filter(|&next| next < stages)),
                    Pass::Backward(i) => (1, i, stage.checked_sub(1)),
                };
                let Some(input) = come[way][stage][i] else { break };
                free[stage] = input.max(free[stage]) + busy[stage] * SHARES[way];
                turns[stage] += 1;
                if let Some(next) = next {
                    last[way][next] = free[stage].max(last[way][next]) + hops[stage.min(next)];
                    come[way][next][i] = Some(last[way][next]);
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
        let lists: Vec<_> = (0..p).map(|s| list(if afab { m } else { m.min(p - s) }, m)).collect();
        let walk = |hop| walk(&lists, &vec![3.0; p], &vec![hop; p - 1]);
        close(walk(0.0), 3.0 * (m + p - 1) as f64);
        walk(hop) - walk(0.0)
    }

    /// `ahead` forward passes, then a backward and a forward one in turn, as long as there are any.
    fn list(ahead: usize, m: usize) -> Vec<Pass> {
        let mut list: Vec<Pass> = (0..m).map(Pass::Forward).collect();
        for i in (0..m).rev() {
            list.insert(m.min(ahead + i), Pass::Backward(i));
        }
        list
    }

    #[test]
    fn a_micro_batch_is_kept_from_its_forward_pass_to_its_backward_one() {
        for (m, ahead) in [(1, 1), (5, 1), (5, 3), (5, 5)] {
            assert_eq!(in_flight(&list(ahead, m)), ahead as u64);
        }
        use Pass::{Backward as B, Forward as F};
        assert_eq!(in_flight(&[F(0), B(0), F(1), F(2), B(2), F(3), B(3), B(1)]), 2);
    }

    /// By hand: a forward pass takes 1, a backward one 2, a message 0.5.
    #[test]
    fn the_lists_are_walked_as_they_are_given() {
        use Pass::{Backward as B, Forward as F};
        let walk = |lists: [&[Pass]; 2]| walk(&lists.map(<[Pass]>::to_vec), &[3.0; 2], &[0.5]);
        // Stage 1: F0 1.5–2.5, B0 2.5–4.5; F1 4.5–5.5, B1 5.5–7.5. Stage 0: B1 from 8.
        close(walk([&[F(0), F(1), B(0), B(1)], &[F(0), B(0), F(1), B(1)]]), 10.0);
        // The last micro-batch first: stage 1 F0, F1 up to 3.5, B1 5.5, B0 7.5; stage 0
        // B1 6–8, B0 8–10.
        close(walk([&[F(0), F(1), B(1), B(0)], &[F(0), F(1), B(1), B(0)]]), 10.0);
        // One at a time: F0 1, message, F0 and B0 until 4.5, message, B0 until 7; and again.
        close(walk([&[F(0), B(0), F(1), B(1)], &[F(0), B(0), F(1), B(1)]]), 14.0);
    }

    #[test]
    #[should_panic(expected = "every stage waits for another")]
    fn lists_that_wait_for_each_other_are_noticed() {
        use Pass::{Backward as B, Forward as F};
        walk(&[vec![B(0), F(0)], vec![F(0), B(0)]], &[3.0; 2], &[0.5]);
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

    /// Stage s has p − s micro-batches under way, and each needs 2(p − s − 1) messages from the
    /// start of its forward pass to the end of its backward one. Stage 0 thus waits 2(p − 1)/p
    /// messages for each.
    #[test]
    fn messages_cost_one_forward_one_backward_some_for_each_micro_batch() {
        for p in [2, 4, 8, 16] {
            let more = messages(false, p, 20 * p, 0.1) - messages(false, p, 10 * p, 0.1);
            close(more / (10 * p) as f64, 0.1 * 2.0 * (p - 1) as f64 / p as f64);
        }
    }

    #[test]
    fn messages_of_one_border_and_direction_travel_one_after_the_other() {
        // Slower than passes, they set the pace: 1 forward, ten messages of 5, and back
        // in the same way.
        close(messages(true, 2, 10, 5.0), 2.0 * (1.0 + 10.0 * 5.0 + 2.0) - 33.0);
    }
}
