//! Tensors that an operation does not take.

use super::fake::pair;
use super::{TIMEOUT, ranks};
use crate::ffi;
use comm::backend::Backend;
use comm::reduce::{DTYPES, REDUCES, reduces};
use comm::{CommError, ReduceOp};
use tch::{Device, Kind, Tensor};

/// A sum of bools would leave a 2 in one.
#[test]
fn the_dtypes_are_those_of_cpus() {
    for (kind, name) in DTYPES {
        assert_eq!(ffi::dtype(kind).is_some(), reduces(kind), "{name}");
    }
    ranks(2, TIMEOUT, |rank, nccl, _| {
        for (kind, name) in DTYPES {
            let (tensor, all) = pair(kind);
            nccl.broadcast(&tensor, 0).unwrap();
            nccl.all_gather(&tensor, &all, 0).unwrap();
            nccl.send(&tensor, 1 - rank).unwrap();
            nccl.recv(&tensor, 1 - rank).unwrap();
            let sums = [
                nccl.all_reduce(&tensor, ReduceOp::Sum),
                nccl.all_reduce(&tensor, ReduceOp::Max),
                nccl.reduce_scatter(&all, &tensor, 0),
            ];
            for sum in sums {
                let refused = matches!(sum, Err(CommError::Dtype { hint: REDUCES, .. }));
                assert_eq!(sum.is_ok(), reduces(kind), "{name}");
                assert_eq!(refused, !reduces(kind), "{name}");
            }
        }
        let complex = Tensor::ones([4], (Kind::ComplexFloat, Device::Cpu));
        let refused = nccl.broadcast(&complex, 0);
        assert!(matches!(refused, Err(CommError::Dtype { .. })), "{refused:?}");
    });
}

#[test]
fn a_tensor_that_cannot_be_written_is_an_error() {
    ranks(2, TIMEOUT, |rank, nccl, _| {
        let seen_often = Tensor::ones([1], (Kind::Float, Device::Cpu)).expand([4], false);
        let refused = [
            nccl.recv(&seen_often, 1 - rank),
            nccl.broadcast(&seen_often, 0),
            nccl.all_reduce(&seen_often, ReduceOp::Sum),
        ];
        for refused in refused {
            assert!(matches!(refused, Err(CommError::Shape { .. })), "{refused:?}");
        }
    });
}
