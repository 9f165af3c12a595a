//! What a group needs of whatever moves its tensors.

use crate::error::{CommError, Result};
use crate::lane::Done;
use crate::reduce::Op;
use crate::ring::chunk;
use tch::Tensor;

/// The operations of [`Group`](crate::Group) on one kind of memory. [`Cpu`](crate::cpu::Cpu)
/// implements them with rings over a [`Transport`](crate::transport::Transport);
/// [`Nccl`](crate::nccl::Nccl) hands them to a library that has collectives of its own.
///
/// The group makes sure that operations of one queue do not overlap.
pub(crate) trait Backend: Send + Sync {
    fn all_reduce(&self, tensor: &Tensor, op: Op) -> Result<()>;
    fn reduce_scatter(&self, tensor: &Tensor) -> Result<Tensor>;
    fn all_gather(&self, tensor: &Tensor) -> Result<Tensor>;
    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()>;
    fn send(&self, tensor: &Tensor, to: usize) -> Result<()>;
    fn recv(&self, tensor: &Tensor, from: usize) -> Result<()>;
    fn barrier(&self) -> Result<()>;
    fn highest(&self, mine: u64) -> Result<u64>;
    /// Bytes of tensors sent so far.
    fn bytes_sent(&self) -> u64;
}

/// Operations that run in the order in which they were started; those of different queues do not
/// wait for each other. Peers are group ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    Collectives,
    To(usize),
    From(usize),
}

/// A backend whose operations return as soon as they are queued.
pub(crate) trait OnGpu: Backend {
    /// The end of what was last started in `queue`; `None` if that needed no GPU.
    fn done(&self, queue: Queue) -> Option<Box<dyn Done>>;
}

/// The shape of a rank's part of a reduce-scatter: `[n*k, ...]` to `[k, ...]`.
pub(crate) fn scattered_shape(group: &str, tensor: &Tensor, n: usize) -> Result<Vec<i64>> {
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
pub(crate) fn gathered_shape(tensor: &Tensor, n: usize) -> Vec<i64> {
    let mut shape = tensor.size();
    match shape.first_mut() {
        Some(rows) => *rows *= n as i64,
        None => shape.push(n as i64),
    }
    shape
}

/// The root of a broadcast, if it is one.
pub(crate) fn root_of(group: &str, root: usize, n: usize) -> Result<usize> {
    if root < n {
        return Ok(root);
    }
    let (op, group) = ("broadcast".to_owned(), group.to_owned());
    Err(CommError::Peer { op, group, peer: root, hint: format!("ranks are 0 to {}", n - 1) })
}

/// Bytes that rank `rank` of `n` sends in a ring to sum `len` elements of `width` bytes: all chunks
/// but its own, then all but its right neighbour's. A library may use another algorithm, and a
/// switch may add; where only ranks add, this is the minimum, up to rounding.
pub fn all_reduce_bytes(len: usize, width: usize, rank: usize, n: usize) -> u64 {
    let kept = |c: usize| chunk(len, c, n).len();
    let sent = if n == 1 { 0 } else { 2 * len - kept(rank) - kept((rank + 1) % n) };
    (sent * width) as u64
}
