//! Every collective against a plain sum or concatenation, over worlds of one to eight ranks.

mod ranks;

use comm::ReduceOp;
use proptest::prelude::*;
use proptest::sample::select;
use ranks::{Over, numbers, run, same};
use tch::{Kind, Tensor};

const REDUCED: [Kind; 7] =
    [Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half, Kind::Int64, Kind::Int, Kind::Uint8];

fn over() -> impl Strategy<Value = Over> {
    prop_oneof![3 => Just(Over::Threads), 1 => Just(Over::Tcp)]
}

fn moved() -> impl Strategy<Value = Kind> {
    select([&REDUCED[..], &[Kind::Bool, Kind::Int8, Kind::Int16]].concat())
}

/// From no dimension to three, empty ones among them; and long ones.
fn shape() -> impl Strategy<Value = Vec<i64>> {
    prop_oneof![
        4 => prop::collection::vec(0..6i64, 0..4),
        1 => prop::collection::vec(1000..4000i64, 1),
    ]
}

/// This rank's tensor; its storage is transposed, hence not contiguous, where `turned`.
fn input(rank: usize, shape: &[i64], kind: Kind, turned: bool) -> Tensor {
    if !turned {
        return numbers(rank, shape, kind);
    }
    let turned: Vec<i64> = shape.iter().rev().copied().collect();
    let last = shape.len() as i64 - 1;
    let order: Vec<i64> = (0..=last).rev().collect();
    numbers(rank, &turned, kind).permute(&order)
}

fn plain_sum(world: usize, shape: &[i64], kind: Kind, turned: bool) -> Tensor {
    let mut sum = input(0, shape, kind, turned).copy();
    for rank in 1..world {
        sum += input(rank, shape, kind, turned);
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn all_reduce_is_the_plain_sum(
        over in over(), world in 1..=8usize, kind in select(&REDUCED[..]), shape in shape(), turned: bool,
    ) {
        let sum = plain_sum(world, &shape, kind, turned);
        let results = run(over, world, |group| {
            let tensor = input(group.rank(), &shape, kind, turned);
            group.all_reduce(&tensor).unwrap();
            let queued = input(group.rank(), &shape, kind, turned);
            group.all_reduce_async(&queued).wait().unwrap();
            [tensor, queued]
        });
        for tensor in results.iter().flatten() {
            prop_assert!(same(tensor, &sum), "{tensor:?}");
        }
    }

    #[test]
    fn all_reduce_finds_the_extremes(
        over in over(), world in 1..=8usize, kind in select(&REDUCED[..]), shape in shape(),
    ) {
        let numbers_of = |rank| numbers(rank, &shape, kind);
        let max = (1..world).fold(numbers_of(0), |max, rank| max.maximum(&numbers_of(rank)));
        let results = run(over, world, |group| {
            let tensor = numbers(group.rank(), &shape, kind);
            group.all_reduce_op(&tensor, ReduceOp::Max).unwrap();
            tensor
        });
        for tensor in results {
            prop_assert!(same(&tensor, &max));
        }
    }

    #[test]
    fn reduce_scatter_leaves_each_rank_its_rows(
        over in over(), world in 1..=8usize, kind in select(&REDUCED[..]), mut shape in shape(), turned: bool,
    ) {
        shape.insert(0, 3 * world as i64);
        let sum = plain_sum(world, &shape, kind, turned);
        let results = run(over, world, |group| {
            let tensor = input(group.rank(), &shape, kind, turned);
            let before = tensor.copy();
            let rows = group.reduce_scatter(&tensor).unwrap();
            assert!(same(&tensor, &before), "the input has changed");
            [rows, group.reduce_scatter_async(&tensor).wait().unwrap()]
        });
        for (rank, rows) in results.iter().enumerate() {
            let expected = sum.narrow(0, 3 * rank as i64, 3);
            prop_assert!(rows.iter().all(|rows| same(rows, &expected)));
        }
    }

    #[test]
    fn all_gather_concatenates(
        over in over(), world in 1..=8usize, kind in moved(), shape in shape(), turned: bool,
    ) {
        let part = |rank| {
            let part = input(rank, &shape, kind, turned);
            if shape.is_empty() { part.reshape([1]) } else { part }
        };
        let all = Tensor::cat(&(0..world).map(part).collect::<Vec<_>>(), 0);
        let results = run(over, world, |group| {
            let tensor = input(group.rank(), &shape, kind, turned);
            [group.all_gather(&tensor).unwrap(), group.all_gather_async(&tensor).wait().unwrap()]
        });
        for gathered in results.iter().flatten() {
            prop_assert!(same(gathered, &all));
        }
    }

    #[test]
    fn broadcast_copies_the_root(
        over in over(), world in 1..=8usize, kind in moved(), shape in shape(), turned: bool, root: usize,
    ) {
        let root = root % world;
        let expected = input(root, &shape, kind, turned);
        let results = run(over, world, |group| {
            let tensor = input(group.rank(), &shape, kind, turned);
            group.broadcast(&tensor, root).unwrap();
            group.barrier().unwrap();
            tensor
        });
        for tensor in &results {
            prop_assert!(same(tensor, &expected));
        }
    }

    #[test]
    fn messages_go_round(
        over in over(), world in 2..=8usize, kind in moved(), shape in shape(), turned: bool,
    ) {
        run(over, world, |group| {
            let (rank, n) = (group.rank(), group.size());
            let (right, left) = ((rank + 1) % n, (rank + n - 1) % n);
            let mine = input(rank, &shape, kind, turned);
            let other = input(n, &shape, kind, turned);
            let sent = group.isend(&mine, right);
            group.recv(&other, left).unwrap();
            sent.wait().unwrap();
            assert!(same(&other, &input(left, &shape, kind, turned)));
            // And back, so that neighbours have sent to each other.
            let back = group.irecv(&other, right);
            group.send(&mine, left).unwrap();
            let received = back.wait().unwrap();
            assert!(same(&received, &input(right, &shape, kind, turned)));
            assert_eq!(received.data_ptr(), other.data_ptr(), "no copy, the tensor itself");
        });
    }
}

/// Longer than the pieces in which buffers travel, and divided neither by them nor by the ranks.
#[test]
fn long_buffers_travel_in_pieces() {
    for (over, world) in [(Over::Threads, 3), (Over::Tcp, 2), (Over::Tcp, 3)] {
        for kind in [Kind::Float, Kind::Uint8] {
            let (n, rows) = (world as i64, 300_007);
            let shape = [n * rows + 1];
            let results = run(over, world, |group| {
                let reduced = numbers(group.rank(), &shape, kind);
                let scattered = group.reduce_scatter(&reduced.narrow(0, 0, n * rows)).unwrap();
                let gathered = group.all_gather(&scattered).unwrap();
                group.all_reduce(&reduced).unwrap();
                let copied = numbers(group.rank(), &shape, kind);
                group.broadcast(&copied, 1).unwrap();
                (scattered, gathered, reduced, copied)
            });
            let sum = plain_sum(world, &shape, kind, false);
            for (rank, (scattered, gathered, reduced, copied)) in results.iter().enumerate() {
                assert!(same(scattered, &sum.narrow(0, rank as i64 * rows, rows)));
                assert!(same(gathered, &sum.narrow(0, 0, n * rows)));
                assert!(same(reduced, &sum));
                assert!(same(copied, &numbers(1, &shape, kind)));
            }
        }
    }
}

/// A sum of reals depends on its order. The order is that of the ring: chunk c begins on rank c+1
/// and each rank adds its own share to what came in, rounding to the dtype once.
#[test]
fn the_order_of_a_sum_is_fixed() {
    let (world, len) = (5usize, 1003i64);
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half] {
        let input = |rank: usize| {
            let x = Tensor::arange(len, (Kind::Double, tch::Device::Cpu));
            ((x + 1) * (rank as f64 + 0.37)).sin().to_kind(kind)
        };
        let wide = |t: &Tensor| {
            if kind == Kind::Double { t.shallow_clone() } else { t.to_kind(Kind::Float) }
        };
        let chunk = |c: usize| {
            let edge = |c: usize| (len as usize * c / world) as i64;
            let part = |rank: usize| input(rank % world).narrow(0, edge(c), edge(c + 1) - edge(c));
            (2..=world)
                .fold(part(c + 1), |sum, step| (wide(&sum) + wide(&part(c + step))).to_kind(kind))
        };
        let expected = Tensor::cat(&(0..world).map(chunk).collect::<Vec<_>>(), 0);
        for over in [Over::Threads, Over::Tcp, Over::Threads] {
            let results = run(over, world, |group| {
                let tensor = input(group.rank());
                group.all_reduce(&tensor).unwrap();
                tensor
            });
            for tensor in results {
                assert!(same(&tensor, &expected), "{kind:?} {over:?}");
            }
        }
    }
}

#[test]
fn extremes_pass_nan_on() {
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16, Kind::Half] {
        for spoiled in 0..3 {
            let results = run(Over::Threads, 3, |group| {
                let value = if group.rank() == spoiled { f64::NAN } else { 1. };
                let tensor = Tensor::full([3], value, (kind, tch::Device::Cpu));
                group.all_reduce_op(&tensor, ReduceOp::Max).unwrap();
                tensor.isnan().all().int64_value(&[])
            });
            assert_eq!(results, [1; 3], "{kind:?}");
        }
    }
}

#[test]
fn autograd_sees_nothing() {
    run(Over::Threads, 2, |group| {
        let leaf = Tensor::ones([4, 2], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        group.all_reduce(&leaf).unwrap();
        group.all_reduce(&leaf.tr()).unwrap(); // not contiguous
        assert!(leaf.is_leaf() && leaf.requires_grad());
        assert_eq!(leaf.sum(Kind::Float).double_value(&[]), 4. * 8.);
        let gathered = group.all_gather(&(&leaf * 2.)).unwrap();
        assert!(!gathered.requires_grad());
    });
}
