//! Tensors in CPU memory, handed to the rings as bytes.

use crate::backend::{Backend, root_of, strips};
use crate::error::{CommError, Result};
use crate::layout::{Coords, GroupSpec};
use crate::memory::{bytes, bytes_mut};
use crate::reduce::{self, Combine, ReduceOp};
use crate::ring::Ring;
use crate::transport::{Call, Channel, Header, OpCode, Transport};
use report::{Trace, Track};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tch::{Device, Tensor, no_grad};

const COLLECTIVES: u32 = 0;
const MESSAGES: u32 = 1;
const LANES: u32 = 2;

/// The backend for CPU tensors: rings over a transport.
pub struct Cpu {
    spec: GroupSpec,
    /// In the group.
    rank: usize,
    transport: Arc<dyn Transport>,
    timeout: Duration,
    trace: Trace,
    sent: AtomicU64,
    /// 0, or [`LANES`] for one made by [`Cpu::beside`].
    first_lane: u32,
}

impl Cpu {
    /// The group `spec` as world rank `world_rank` sees it.
    ///
    /// # Panics
    /// If that is no member.
    pub fn new(
        spec: GroupSpec,
        world_rank: usize,
        transport: Arc<dyn Transport>,
        timeout: Duration,
        trace: Trace,
    ) -> Cpu {
        let rank = spec.members.iter().position(|&member| member == world_rank);
        let rank = rank.expect("a rank only makes groups that it is a member of");
        Cpu { spec, rank, transport, timeout, trace, sent: AtomicU64::new(0), first_lane: 0 }
    }

    /// The same group in lanes of its own, whose operations do not mix with this one's.
    pub fn beside(&self) -> Cpu {
        Cpu {
            spec: self.spec.clone(),
            transport: self.transport.clone(),
            trace: self.trace.clone(),
            sent: AtomicU64::new(0),
            first_lane: LANES,
            ..*self
        }
    }

    /// This rank's place in the group.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Members of the group.
    pub fn size(&self) -> usize {
        self.spec.members.len()
    }

    /// The group.
    pub fn spec(&self) -> &GroupSpec {
        &self.spec
    }

    /// Where a group rank is.
    pub fn coords(&self, rank: usize) -> Coords {
        self.spec.layout.coords(self.spec.members[rank])
    }

    /// Runs one operation on a ring of its own; records what it sent and how long it took.
    fn with_ring<T>(
        &self,
        header: Header,
        lane: u32,
        name: &'static str,
        job: impl FnOnce(&mut Ring) -> Result<T>,
    ) -> Result<T> {
        let span = self.trace.span(Track::group(self.spec.name), name);
        let mut ring = Ring {
            transport: &*self.transport,
            members: &self.spec.members,
            rank: self.rank,
            channel: Channel { group: self.spec.id, lane: self.first_lane + lane },
            call: Call {
                header,
                group: &self.spec,
                rank: self.spec.members[self.rank],
                timeout: self.timeout,
            },
            sent: 0,
        };
        let result = job(&mut ring);
        self.sent.fetch_add(ring.sent, Ordering::Relaxed);
        let _ended = span.bytes(ring.sent);
        result
    }

    /// Checks that a tensor can be moved, and describes the call.
    fn header(&self, op: OpCode, tensor: &Tensor, root: usize) -> Result<Header> {
        if tensor.device() != Device::Cpu {
            return Err(CommError::Device {
                op: op.to_string(),
                group: self.spec.name.to_string(),
                device: format!("{:?}", tensor.device()),
            });
        }
        let hint = "convert it to f32 first";
        let dtype =
            reduce::code(tensor.kind()).ok_or_else(|| self.dtype_error(op, tensor, hint))?;
        Ok(Header { op, dtype, root: root as u32, numel: tensor.numel() as u64 })
    }

    fn combine(&self, op: OpCode, tensor: &Tensor, reduction: ReduceOp) -> Result<Combine> {
        let error = || self.dtype_error(op, tensor, reduce::REDUCES);
        reduce::combine(tensor.kind(), reduction).ok_or_else(error)
    }

    fn dtype_error(&self, op: OpCode, tensor: &Tensor, hint: &'static str) -> CommError {
        CommError::Dtype {
            op: op.to_string(),
            group: self.spec.name.to_string(),
            dtype: format!("{:?}", tensor.kind()),
            hint,
        }
    }

    /// `op` has panicked, where and why.
    pub(crate) fn panicked(&self, op: &str, why: &str) -> CommError {
        CommError::Failed {
            rank: self.coords(self.rank).to_string(),
            group: self.spec.name.to_owned(),
            op: op.to_owned(),
            detail: format!("it panicked {why}"),
        }
    }

    fn shape_error(&self, op: OpCode, detail: String) -> CommError {
        CommError::Shape { op: op.to_string(), group: self.spec.name.to_string(), detail }
    }

    /// Hands out the tensor's own memory, or a contiguous copy that is written back afterwards.
    fn in_place(
        &self,
        op: OpCode,
        tensor: &Tensor,
        job: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<()> {
        if tensor.is_contiguous() {
            return job(bytes_mut(&mut tensor.shallow_clone()));
        }
        let mut copy = no_grad(|| tensor.contiguous());
        job(bytes_mut(&mut copy))?;
        let written = no_grad(|| tensor.shallow_clone().f_copy_(&copy));
        written.map_err(|e| self.shape_error(op, format!("the result cannot be written: {e}")))
    }
}

impl Backend for Cpu {
    fn all_reduce(&self, tensor: &Tensor, reduction: ReduceOp) -> Result<()> {
        let op = match reduction {
            ReduceOp::Sum => OpCode::AllReduceSum,
            ReduceOp::Max => OpCode::AllReduceMax,
        };
        let header = self.header(op, tensor, 0)?;
        let combine = self.combine(op, tensor, reduction)?;
        if self.size() == 1 {
            return Ok(());
        }
        let width = tensor.kind().elt_size_in_bytes();
        self.with_ring(header, COLLECTIVES, "all_reduce", |ring| {
            self.in_place(op, tensor, |data| ring.all_reduce(data, width, combine))
        })
    }

    fn reduce_scatter(&self, tensor: &Tensor, output: &Tensor, dim: usize) -> Result<()> {
        let op = OpCode::ReduceScatter;
        let header = self.header(op, tensor, 0)?;
        let combine = self.combine(op, tensor, ReduceOp::Sum)?;
        let tensor = no_grad(|| tensor.contiguous());
        let (strips, width) = (strips(&tensor.size(), dim), tensor.kind().elt_size_in_bytes());
        let mut output = output.shallow_clone();
        self.with_ring(header, COLLECTIVES, "reduce_scatter", |ring| {
            ring.reduce_scatter(bytes(&tensor), bytes_mut(&mut output), strips, width, combine)
        })
    }

    fn all_gather(&self, tensor: &Tensor, output: &Tensor, dim: usize) -> Result<()> {
        let header = self.header(OpCode::AllGather, tensor, 0)?;
        let tensor = if tensor.dim() == 0 { tensor.view([1]) } else { tensor.shallow_clone() };
        let (rows, start) = (tensor.size()[dim], self.rank as i64 * tensor.size()[dim]);
        no_grad(|| output.narrow(dim as i64, start, rows).copy_(&tensor)); // ours, in its place
        let (strips, width) = (strips(&output.size(), dim), tensor.kind().elt_size_in_bytes());
        let mut output = output.shallow_clone();
        self.with_ring(header, COLLECTIVES, "all_gather", |ring| {
            ring.all_gather(bytes_mut(&mut output), strips, width)
        })
    }

    fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()> {
        let op = OpCode::Broadcast;
        let header = self.header(op, tensor, root)?;
        root_of(self.spec.name, root, self.size())?;
        if self.size() == 1 {
            return Ok(());
        }
        self.with_ring(header, COLLECTIVES, "broadcast", |ring| {
            self.in_place(op, tensor, |data| ring.broadcast(data, root))
        })
    }

    fn send(&self, tensor: &Tensor, to: usize) -> Result<()> {
        let header = self.header(OpCode::SendRecv, tensor, 0)?;
        let tensor = no_grad(|| tensor.contiguous());
        self.with_ring(header, MESSAGES, "send", |ring| {
            ring.send(bytes(&tensor), self.spec.members[to])
        })
    }

    fn recv(&self, tensor: &Tensor, from: usize) -> Result<()> {
        let op = OpCode::SendRecv;
        let header = self.header(op, tensor, 0)?;
        self.with_ring(header, MESSAGES, "recv", |ring| {
            self.in_place(op, tensor, |data| ring.receive(data, self.spec.members[from]))
        })
    }

    fn barrier(&self) -> Result<()> {
        self.with_ring(Header::BARRIER, COLLECTIVES, "barrier", |ring| ring.barrier())
    }

    fn highest(&self, mine: u64) -> Result<u64> {
        self.with_ring(Header::HIGHEST, COLLECTIVES, "highest", |ring| ring.highest(mine))
    }

    fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}
