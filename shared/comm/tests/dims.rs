//! Reduce-scatter and all-gather along any dimension of a tensor.

mod ranks;

use proptest::prelude::*;
use proptest::sample::select;
use ranks::{Over, numbers, run, same};
use tch::{Kind, Tensor};

const KINDS: [Kind; 4] = [Kind::Double, Kind::Float, Kind::BFloat16, Kind::Int64];

fn over() -> impl Strategy<Value = Over> {
    prop_oneof![3 => Just(Over::Threads), 1 => Just(Over::Tcp)]
}

/// A shape of one to four dimensions, empty ones among them, and one of these dimensions.
fn shape() -> impl Strategy<Value = (Vec<i64>, usize)> {
    prop::collection::vec(0..5i64, 1..=4)
        .prop_flat_map(|shape| (0..shape.len()).prop_map(move |dim| (shape.clone(), dim)))
}

/// This rank's tensor. Where `turned`, its memory is transposed: it is not contiguous.
fn input(rank: usize, shape: &[i64], kind: Kind, turned: bool) -> Tensor {
    let plain = numbers(rank, shape, kind);
    let last = shape.len() as i64 - 1;
    if turned { plain.transpose(0, last).contiguous().transpose(0, last) } else { plain }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn each_rank_keeps_its_part_of_the_sum(
        over in over(), world in 1..=5usize, kind in select(&KINDS[..]), (mut shape, dim) in shape(), turned: bool,
    ) {
        let rows = shape[dim];
        shape[dim] *= world as i64;
        let mut sum = input(0, &shape, kind, turned).copy();
        for rank in 1..world {
            sum += input(rank, &shape, kind, turned);
        }
        let results = run(over, world, |group| {
            let tensor = input(group.rank(), &shape, kind, turned);
            let before = tensor.copy();
            let part = group.reduce_scatter_dim(&tensor, dim).unwrap();
            assert!(same(&tensor, &before), "the input has changed");
            [part, group.reduce_scatter_dim_async(&tensor, dim).wait().unwrap()]
        });
        for (rank, parts) in results.iter().enumerate() {
            let expected = sum.narrow(dim as i64, rank as i64 * rows, rows);
            prop_assert!(parts.iter().all(|part| same(part, &expected) && part.is_contiguous()));
        }
    }

    #[test]
    fn all_ranks_have_the_parts_of_all_in_their_order(
        over in over(), world in 1..=5usize, kind in select(&KINDS[..]), (shape, dim) in shape(), turned: bool,
    ) {
        let parts: Vec<Tensor> = (0..world).map(|rank| input(rank, &shape, kind, turned)).collect();
        let all = Tensor::cat(&parts, dim as i64);
        let results = run(over, world, |group| {
            let tensor = input(group.rank(), &shape, kind, turned);
            let queued = group.all_gather_dim_async(&tensor, dim).wait().unwrap();
            [group.all_gather_dim(&tensor, dim).unwrap(), queued]
        });
        for gathered in results.iter().flatten() {
            prop_assert!(same(gathered, &all) && gathered.is_contiguous());
        }
    }
}

/// Each sends (n-1)/n of the whole, whatever the dimension.
#[test]
fn the_bytes_sent_are_those_of_the_first_dimension() {
    for (n, dim) in [(2, 1), (4, 1), (3, 2), (4, 0)] {
        let mut shape = [8, 24, 12];
        let whole = (8 * 24 * 12 * 4) as u64;
        let sent = run(Over::Threads, n, |group| {
            let _ = group.reduce_scatter_dim(&numbers(0, &shape, Kind::Float), dim).unwrap();
            group.bytes_sent()
        });
        assert_eq!(sent, vec![whole * (n as u64 - 1) / n as u64; n], "along {dim}");
        shape[dim] /= n as i64;
        let sent = run(Over::Threads, n, |group| {
            let _ = group.all_gather_dim(&numbers(0, &shape, Kind::Float), dim).unwrap();
            group.bytes_sent()
        });
        assert_eq!(sent, vec![whole * (n as u64 - 1) / n as u64; n], "along {dim}");
    }
}

#[test]
fn a_dimension_that_is_not_there_or_is_not_divided_is_refused() {
    run(Over::Threads, 2, |group| {
        let tensor = numbers(0, &[4, 3], Kind::Float);
        let error = group.reduce_scatter_dim(&tensor, 1).unwrap_err().to_string();
        assert!(error.contains("dimension 1") && error.contains("multiple of 2"), "{error}");
        let error = group.all_gather_dim(&tensor, 2).unwrap_err().to_string();
        assert!(error.contains("has no dimension 2"), "{error}");
        let error = group.reduce_scatter_dim_async(&tensor, 1).wait().unwrap_err().to_string();
        assert!(error.contains("dimension 1"), "{error}");
        let error = group.all_gather_dim_async(&tensor, 2).wait().unwrap_err().to_string();
        assert!(error.contains("has no dimension 2"), "{error}");
    });
}
