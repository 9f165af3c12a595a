//! The lesson on collectives: the two rounds of the ring, each alone, then both.

mod ranks;

use comm::all_reduce_bytes;
use ranks::{Over, numbers, run_with};
use std::time::Duration;
use tch::{Kind, Tensor};

/// A round that is not right yet may wait for what never comes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What each of `n` ranks makes of its group.
fn on_each<T: Send>(n: usize, main: impl Fn(&comm::Group) -> comm::Result<T> + Sync) -> Vec<T> {
    let outcomes = run_with(Over::Threads, n, PATIENCE, |group, _| main(group));
    let or_panic = |(rank, outcome): (usize, comm::Result<T>)| {
        outcome.unwrap_or_else(|error| panic!("rank {rank}: {error}"))
    };
    outcomes.into_iter().enumerate().map(or_panic).collect()
}

fn sum(n: usize, shape: &[i64]) -> Tensor {
    (1..n)
        .fold(numbers(0, shape, Kind::Double), |sum, rank| sum + numbers(rank, shape, Kind::Double))
}

/// Panics on the first number that is not as it should be.
fn check(what: &str, n: usize, rank: usize, expected: &Tensor, got: &Tensor) {
    assert_eq!(got.size(), expected.size(), "{what}: the shape on rank {rank} of {n}");
    let (expected, got) = (expected.flatten(0, -1), got.flatten(0, -1));
    for i in 0..expected.size()[0] {
        let (expected, got) = (expected.double_value(&[i]), got.double_value(&[i]));
        assert_eq!(got, expected, "{what}: number {i} on rank {rank} of {n}");
    }
}

#[test]
fn a_reduce_scatter_leaves_each_rank_the_sum_of_its_chunk() {
    for n in [1, 2, 3, 4, 5] {
        let shape = [4 * n as i64, 3];
        let outcomes =
            on_each(n, |group| group.reduce_scatter(&numbers(group.rank(), &shape, Kind::Double)));
        for (rank, got) in outcomes.iter().enumerate() {
            let own = sum(n, &shape).narrow(0, 4 * rank as i64, 4);
            check("reduce-scatter", n, rank, &own, got);
        }
    }
}

#[test]
fn a_reduce_scatter_sends_every_chunk_but_ones_own() {
    for n in [1, 2, 3, 4, 5] {
        let shape = [4 * n as i64, 3];
        let outcomes = on_each(n, |group| {
            let _ = group.reduce_scatter(&numbers(group.rank(), &shape, Kind::Double))?;
            Ok(group.bytes_sent())
        });
        for (rank, sent) in outcomes.into_iter().enumerate() {
            let expected = (n as u64 - 1) * 4 * 3 * 8;
            assert_eq!(sent, expected, "reduce-scatter: bytes that rank {rank} of {n} sends");
        }
    }
}

#[test]
fn an_all_gather_puts_every_ranks_chunk_in_its_place() {
    for n in [1, 2, 3, 4, 5] {
        let shape = [4, 3];
        let outcomes =
            on_each(n, |group| group.all_gather(&numbers(group.rank(), &shape, Kind::Double)));
        let all: Vec<Tensor> = (0..n).map(|rank| numbers(rank, &shape, Kind::Double)).collect();
        for (rank, got) in outcomes.iter().enumerate() {
            check("all-gather", n, rank, &Tensor::cat(&all, 0), got);
        }
    }
}

#[test]
fn an_all_gather_sends_every_chunk_but_the_right_neighbours() {
    for n in [1, 2, 3, 4, 5] {
        let outcomes = on_each(n, |group| {
            let _ = group.all_gather(&numbers(group.rank(), &[4, 3], Kind::Double))?;
            Ok(group.bytes_sent())
        });
        for (rank, sent) in outcomes.into_iter().enumerate() {
            let expected = (n as u64 - 1) * 4 * 3 * 8;
            assert_eq!(sent, expected, "all-gather: bytes that rank {rank} of {n} sends");
        }
    }
}

/// Lengths that the ranks do not divide, shorter than the world, and longer than a piece.
#[test]
fn an_all_reduce_is_the_plain_sum_whatever_the_length() {
    for n in [2, 3, 4] {
        for length in [0, 1, 2, 7, 10, 100_003] {
            let outcomes = on_each(n, |group| {
                let tensor = numbers(group.rank(), &[length], Kind::Double);
                group.all_reduce(&tensor)?;
                Ok((tensor, group.bytes_sent()))
            });
            for (rank, (got, sent)) in outcomes.iter().enumerate() {
                let what = format!("all-reduce of {length} numbers");
                let same = got.equal(&sum(n, &[length]));
                if !same {
                    check(&what, n, rank, &sum(n, &[length]), got);
                }
                let expected = all_reduce_bytes(length as usize, 8, rank, n);
                assert_eq!(*sent, expected, "{what}: bytes that rank {rank} of {n} sends");
            }
        }
    }
}

/// 0.1, 0.2, 0.3 have no exact sum: another order gives other bits.
#[test]
fn every_rank_has_the_same_bits() {
    let n = 4;
    let outcomes = on_each(n, |group| {
        let tensor = (numbers(group.rank(), &[37], Kind::Double) + 1.0) / 10.0;
        group.all_reduce(&tensor)?;
        Ok(ranks::bits(&tensor))
    });
    for (rank, bits) in outcomes.iter().enumerate() {
        assert!(*bits == outcomes[0], "the bits on rank {rank} are not those on rank 0");
    }
}

/// A rank that leaves ends the wait of the others with an error, in both rounds.
#[test]
fn an_error_of_a_neighbour_is_passed_on() {
    for gather in [false, true] {
        let outcomes = run_with(Over::Threads, 3, PATIENCE, |group, abort| {
            if group.rank() == 2 {
                abort.raise("this rank leaves");
                return true;
            }
            let tensor = numbers(group.rank(), &[6], Kind::Double);
            match gather {
                true => group.all_gather(&tensor).is_err(),
                false => group.reduce_scatter(&tensor).is_err(),
            }
        });
        let round = if gather { "all-gather" } else { "reduce-scatter" };
        for (rank, failed) in outcomes.into_iter().enumerate() {
            assert!(failed, "{round}: a neighbour is gone, and rank {rank} says that all is well");
        }
    }
}
