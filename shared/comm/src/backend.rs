//! What a group asks of whatever moves its tensors.

use crate::error::Result;
use crate::reduce::Op;
use tch::Tensor;

/// The operations of [`Group`](crate::Group) on one kind of memory. [`Cpu`](crate::cpu::Cpu)
/// implements them with rings over a [`Transport`](crate::transport::Transport); a library that
/// has collectives of its own implements this trait and no transport.
///
/// The group sees to it that operations of one lane do not overlap.
pub(crate) trait Backend: Send + Sync {
    fn all_reduce(&self, tensor: &Tensor, op: Op) -> Result<()>;
    fn reduce_scatter(&self, tensor: &Tensor) -> Result<Tensor>;
    fn all_gather(&self, tensor: &Tensor) -> Result<Tensor>;
    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()>;
    fn send(&self, tensor: &Tensor, to: usize) -> Result<()>;
    fn recv(&self, tensor: &Tensor, from: usize) -> Result<()>;
    fn barrier(&self) -> Result<()>;
    /// Bytes of tensors sent so far.
    fn bytes_sent(&self) -> u64;
}
