//! What a group needs of whatever moves its tensors.

use crate::error::{CommError, Result};
use crate::reduce::ReduceOp;
use tch::Tensor;

/// The operations of [`Group`](crate::Group) on one kind of memory. [`Cpu`](crate::Cpu) implements
/// them with rings over a [`Transport`](crate::transport::Transport); the crate `nccl` hands them
/// to a library that has collectives of its own.
///
/// The group makes sure that operations of one queue do not overlap.
pub trait Backend: Send + Sync {
    /// Combines `tensor` over all ranks, in place.
    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<()>;
    /// Fills `output` with this rank's part of the sum of all ranks' `tensor`, which is n times as
    /// long along dimension `dim`. `output` is contiguous.
    fn reduce_scatter(&self, tensor: &Tensor, output: &Tensor, dim: usize) -> Result<()>;
    /// Fills `output` with all ranks' `tensor`, one behind the other along dimension `dim`.
    /// `output` is contiguous.
    fn all_gather(&self, tensor: &Tensor, output: &Tensor, dim: usize) -> Result<()>;
    /// Replaces `tensor` by that of group rank `root`.
    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()>;
    /// Sends `tensor` to group rank `to`.
    fn send(&self, tensor: &Tensor, to: usize) -> Result<()>;
    /// Fills `tensor` from group rank `from`.
    fn recv(&self, tensor: &Tensor, from: usize) -> Result<()>;
    /// Returns when all ranks are here.
    fn barrier(&self) -> Result<()>;
    /// The highest of the ranks' numbers.
    fn highest(&self, mine: u64) -> Result<u64>;
    /// Bytes of tensors sent so far.
    fn bytes_sent(&self) -> u64;
}

/// Operations that run in the order in which they were started; those of different queues do not
/// wait for each other. Peers are group ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Those of all ranks.
    Collectives,
    /// Messages to a peer.
    To(usize),
    /// Messages from a peer.
    From(usize),
}

/// The end of an operation that is queued on a GPU.
pub trait Done: Send {
    /// Makes what the calling thread queues from now on start after it; the host does not wait.
    fn wait(&self) -> Result<()>;
}

/// A backend whose operations return as soon as they are queued.
pub trait OnGpu: Backend {
    /// The end of what was last started in `queue`; `None` if that needed no GPU.
    fn done(&self, queue: Queue) -> Option<Box<dyn Done>>;
}

/// The shape of a rank's part of a reduce-scatter along `dim`: `[.., n*k, ..]` to `[.., k, ..]`.
pub(crate) fn scattered_shape(
    group: &str,
    tensor: &Tensor,
    dim: usize,
    n: usize,
) -> Result<Vec<i64>> {
    let (mut shape, n) = (tensor.size(), n as i64);
    match shape.get_mut(dim) {
        Some(rows) if *rows % n == 0 => *rows /= n,
        _ => {
            return Err(CommError::Shape {
                op: "reduce_scatter".to_owned(),
                group: group.to_owned(),
                detail: format!(
                    "dimension {dim} of a tensor of shape {shape:?} must be a multiple of {n}, the size of the group"
                ),
            });
        }
    }
    Ok(shape)
}

/// The shape that an all-gather along `dim` makes of `[.., k, ..]`: `[.., n*k, ..]`. A tensor
/// without dimensions counts as `[1]`.
pub(crate) fn gathered_shape(
    group: &str,
    tensor: &Tensor,
    dim: usize,
    n: usize,
) -> Result<Vec<i64>> {
    let mut shape = tensor.size();
    if shape.is_empty() && dim == 0 {
        shape.push(1);
    }
    let detail = format!("a tensor of shape {shape:?} has no dimension {dim}");
    match shape.get_mut(dim) {
        Some(rows) => *rows *= n as i64,
        None => {
            let (op, group) = ("all_gather".to_owned(), group.to_owned());
            return Err(CommError::Shape { op, group, detail });
        }
    }
    Ok(shape)
}

/// In how many pieces of memory a rank's part lies in a contiguous tensor of this shape that is
/// cut along `dim`: one for each index of the dimensions before.
pub fn strips(shape: &[i64], dim: usize) -> usize {
    shape.iter().take(dim).product::<i64>().max(1) as usize
}

/// The root of a broadcast, if it is one.
pub fn root_of(group: &str, root: usize, n: usize) -> Result<usize> {
    if root < n {
        return Ok(root);
    }
    let (op, group) = ("broadcast".to_owned(), group.to_owned());
    Err(CommError::Peer { op, group, peer: root, hint: format!("ranks are 0 to {}", n - 1) })
}
