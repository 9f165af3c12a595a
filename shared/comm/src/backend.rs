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
    /// This rank's part `[k, ...]` of the sum of all ranks' `tensor` `[n*k, ...]`.
    fn reduce_scatter(&self, tensor: &Tensor) -> Result<Tensor>;
    /// All ranks' `tensor` `[k, ...]`, one behind the other: `[n*k, ...]`.
    fn all_gather(&self, tensor: &Tensor) -> Result<Tensor>;
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

/// The shape of a rank's part of a reduce-scatter: `[n*k, ...]` to `[k, ...]`.
pub fn scattered_shape(group: &str, tensor: &Tensor, n: usize) -> Result<Vec<i64>> {
    let (mut shape, n) = (tensor.size(), n as i64);
    match shape.first_mut() {
        Some(rows) if *rows % n == 0 => *rows /= n,
        _ => {
            return Err(CommError::Shape {
                op: "reduce_scatter".to_owned(),
                group: group.to_owned(),
                detail: format!(
                    "dimension 0 of a tensor of shape {shape:?} must be a multiple of {n}, the size of the group"
                ),
            });
        }
    }
    Ok(shape)
}

/// The shape that an all-gather makes of `[k, ...]`: `[n*k, ...]`.
pub fn gathered_shape(tensor: &Tensor, n: usize) -> Vec<i64> {
    let mut shape = tensor.size();
    match shape.first_mut() {
        Some(rows) => *rows *= n as i64,
        None => shape.push(n as i64),
    }
    shape
}

/// The root of a broadcast, if it is one.
pub fn root_of(group: &str, root: usize, n: usize) -> Result<usize> {
    if root < n {
        return Ok(root);
    }
    let (op, group) = ("broadcast".to_owned(), group.to_owned());
    Err(CommError::Peer { op, group, peer: root, hint: format!("ranks are 0 to {}", n - 1) })
}
