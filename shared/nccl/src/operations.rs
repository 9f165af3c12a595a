//! The operations of a group on tensors in the memory of its ranks' GPUs.

use crate::channel::Channel;
use crate::driver::{Call, Driver};
use crate::group::{Nccl, message};
use comm::backend::{Backend, Done, root_of, strips};
use comm::{CommError, ReduceOp, Result, all_reduce_bytes, reduce};
use std::sync::atomic::Ordering;
use tch::{Tensor, no_grad};

impl<D: Driver> Nccl<D> {
    fn count(&self, bytes: u64) -> u64 {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        bytes
    }

    /// The same dtypes as on CPUs.
    fn check(&self, op: &'static str, tensor: &Tensor) -> Result<()> {
        let can = reduce::code(tensor.kind()).is_some();
        self.ensure(can, op, tensor, "convert it to f32 first")
    }

    fn check_reduced(&self, op: &'static str, tensor: &Tensor) -> Result<()> {
        self.ensure(reduce::reduces(tensor.kind()), op, tensor, reduce::REDUCES)
    }

    fn ensure(&self, can: bool, op: &str, tensor: &Tensor, hint: &'static str) -> Result<()> {
        let (group, dtype) = (self.cpu.spec().name.to_owned(), format!("{:?}", tensor.kind()));
        can.then_some(()).ok_or(CommError::Dtype { op: op.to_owned(), group, dtype, hint })
    }

    /// Runs `job` on the tensor, or on a contiguous copy that is written back as
    /// soon as it is done.
    fn in_place(
        &self,
        op: &str,
        channel: &Channel<D>,
        tensor: &Tensor,
        job: impl FnOnce(&Tensor) -> Result<()>,
    ) -> Result<()> {
        if tensor.is_contiguous() {
            return job(tensor);
        }
        let copy = no_grad(|| tensor.contiguous());
        job(&copy)?;
        channel.done().map_or(Ok(()), |done| done.wait())?;
        let written = no_grad(|| tensor.shallow_clone().f_copy_(&copy));
        written.map_err(|e| CommError::Shape {
            op: op.to_owned(),
            group: self.cpu.spec().name.to_owned(),
            detail: format!("the result cannot be written: {e}"),
        })
    }
}

fn bytes(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}

/// What a group of one makes of it.
fn copy(tensor: &Tensor, output: &Tensor) -> Result<()> {
    no_grad(|| output.shallow_clone().copy_(&tensor.view_as(output)));
    Ok(())
}

impl<D: Driver> Backend for Nccl<D> {
    fn all_reduce(&self, tensor: &Tensor, op: ReduceOp) -> Result<()> {
        self.check_reduced("all_reduce", tensor)?;
        if self.size() == 1 || tensor.numel() == 0 {
            return Ok(());
        }
        let width = tensor.kind().elt_size_in_bytes();
        let bytes = self.count(all_reduce_bytes(tensor.numel(), width, self.rank(), self.size()));
        let channel = self.collectives()?;
        self.in_place("all_reduce", &channel, tensor, |tensor| {
            channel.launch("all_reduce", bytes, &Call::AllReduce { tensor, op })
        })
    }

    fn reduce_scatter(&self, tensor: &Tensor, output: &Tensor, dim: usize) -> Result<()> {
        self.check_reduced("reduce_scatter", tensor)?;
        if self.size() == 1 || output.numel() == 0 {
            return copy(tensor, output);
        }
        let input = &no_grad(|| tensor.contiguous());
        let sent = self.count(bytes(input) - bytes(output));
        let call = Call::ReduceScatter { input, output, strips: strips(&output.size(), dim) };
        self.collectives()?.launch("reduce_scatter", sent, &call)
    }

    fn all_gather(&self, tensor: &Tensor, output: &Tensor, dim: usize) -> Result<()> {
        self.check("all_gather", tensor)?;
        if self.size() == 1 || output.numel() == 0 {
            return copy(tensor, output);
        }
        let input = &no_grad(|| tensor.contiguous());
        let sent = self.count(bytes(output) - bytes(input));
        let call = Call::AllGather { input, output, strips: strips(&output.size(), dim) };
        self.collectives()?.launch("all_gather", sent, &call)
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()> {
        self.check("broadcast", tensor)?;
        let root = root_of(self.cpu.spec().name, root, self.size())?;
        if self.size() == 1 || tensor.numel() == 0 {
            return Ok(());
        }
        let last = (root + self.size() - 1) % self.size() == self.rank(); // of the chain
        let sent = self.count(if last { 0 } else { bytes(tensor) });
        let channel = self.collectives()?;
        self.in_place("broadcast", &channel, tensor, |tensor| {
            channel.launch("broadcast", sent, &Call::Broadcast { tensor, root })
        })
    }

    fn send(&self, tensor: &Tensor, to: usize) -> Result<()> {
        self.check("send", tensor)?;
        if tensor.numel() == 0 {
            return Ok(());
        }
        let tensor = no_grad(|| tensor.contiguous());
        let sent = self.count(bytes(&tensor));
        self.pair(self.rank(), to)?.launch("send", sent, &message(true, &tensor))
    }

    fn recv(&self, tensor: &Tensor, from: usize) -> Result<()> {
        self.check("recv", tensor)?;
        if tensor.numel() == 0 {
            return Ok(());
        }
        let channel = self.pair(from, self.rank())?;
        self.in_place("recv", &channel, tensor, |tensor| {
            channel.launch("recv", 0, &message(false, tensor))
        })
    }

    /// Ranks meet where they are, whatever is queued on their GPUs.
    fn barrier(&self) -> Result<()> {
        self.cpu.barrier()
    }

    fn highest(&self, mine: u64) -> Result<u64> {
        self.cpu.highest(mine)
    }

    fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}
