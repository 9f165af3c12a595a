//! The bytes that each operation sends, exactly: the ring moves the least there is.

mod ranks;

use ranks::{Over, numbers, run};
use tch::Kind;

/// Elements of chunk c of `numel`, cut for n ranks.
fn chunk(numel: usize, n: usize, c: usize) -> usize {
    let c = c % n;
    numel * (c + 1) / n - numel * c / n
}

fn sent(over: Over, n: usize, job: impl Fn(&comm::Group) + Sync) -> Vec<u64> {
    run(over, n, |group| {
        job(group);
        group.bytes_sent()
    })
}

#[test]
fn every_operation_sends_what_its_formula_says() {
    for over in [Over::Threads, Over::Tcp] {
        for n in 1..=5usize {
            // Elements: none, one, fewer than ranks, not divided, divided, several pieces.
            for numel in [0, 1, 3, 1001, 960, 400_003] {
                for (kind, width) in [(Kind::Float, 4), (Kind::BFloat16, 2), (Kind::Int64, 8)] {
                    let tensor = |rank| numbers(rank, &[numel as i64], kind);
                    let by_rank = |f: &dyn Fn(usize) -> usize| -> Vec<u64> {
                        (0..n).map(|r| (f(r) * width) as u64).collect()
                    };

                    let measured = sent(over, n, |g| g.all_reduce(&tensor(g.rank())).unwrap());
                    let all_reduce = |r| match n {
                        1 => 0,
                        _ => 2 * numel - chunk(numel, n, r) - chunk(numel, n, r + 1),
                    };
                    assert_eq!(measured, by_rank(&all_reduce), "all_reduce {n} {numel}");
                    if numel % n == 0 {
                        // The figure that everybody quotes: 2(n-1)/n of the buffer.
                        let quoted = |_| 2 * (n - 1) * numel / n;
                        assert_eq!(measured, by_rank(&quoted), "all_reduce {n} {numel}");
                        let measured = sent(over, n, |g| {
                            let _ = g.reduce_scatter(&tensor(g.rank())).unwrap();
                        });
                        assert_eq!(
                            measured,
                            by_rank(&|_| (n - 1) * numel / n),
                            "reduce_scatter {n} {numel}"
                        );
                    }

                    let measured = sent(over, n, |g| {
                        let _ = g.all_gather(&tensor(g.rank())).unwrap();
                    });
                    assert_eq!(measured, by_rank(&|_| (n - 1) * numel), "all_gather {n} {numel}");

                    let root = n / 2;
                    let last = (root + n - 1) % n; // of the chain
                    let measured = sent(over, n, |g| g.broadcast(&tensor(g.rank()), root).unwrap());
                    let broadcast = |r| if r == last { 0 } else { numel };
                    assert_eq!(measured, by_rank(&broadcast), "broadcast {n} {numel}");

                    if n > 1 {
                        let measured = sent(over, n, |g| match g.rank() {
                            0 => g.send(&tensor(0), n - 1).unwrap(),
                            last if last == n - 1 => g.recv(&tensor(last), 0).unwrap(),
                            _ => (),
                        });
                        assert_eq!(
                            measured,
                            by_rank(&|r| if r == 0 { numel } else { 0 }),
                            "send {n} {numel}"
                        );
                    }
                }
            }
            assert_eq!(sent(over, n, |g| g.barrier().unwrap()), vec![0; n]);
        }
    }
}
