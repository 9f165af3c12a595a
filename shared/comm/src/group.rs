//! A group of ranks and what it can do together.

use crate::abort::Abort;
use crate::backend::{Backend, OnGpu, Queue};
use crate::cpu::Cpu;
use crate::dispatch::Dispatch;
use crate::error::{CommError, Result};
use crate::lane::Work;
use crate::layout::GroupSpec;
use crate::reduce::ReduceOp;
use crate::transport::Transport;
use report::Trace;
use std::sync::Arc;
use std::time::Duration;
use tch::Tensor;

/// Ranks that work on something together, seen from one of them. A clone is another handle to
/// the same group.
///
/// Every member makes the same collective calls in the same order. Reductions have a fixed
/// order: the results are the same bits on every rank, run after run. Nothing here records
/// autograd history; operations that write into a tensor write into its storage, and autograd
/// does not see it.
///
/// Each operation has a blocking form and a non-blocking one that returns [`Work`]. Non-blocking
/// operations of one kind run in the order in which they were started: collectives in one queue,
/// messages in one queue for each peer and direction. So neighbours may `isend` and `irecv` in
/// whatever order suits them.
///
/// Where the ranks have GPUs, tensors on them are handed to NCCL, and *blocking* then means that
/// what is computed next waits, not the thread.
///
/// # In flight
/// Until its operation is done, a tensor must not be written, nor read if the operation writes into
/// it. Nothing checks this, as nothing checks tch's own tensors, which may share memory: breaking
/// it is a data race.
///
/// # Errors
/// An operation that fails also raises the run's [`Abort`], so that no other rank waits in vain.
#[derive(Clone)]
pub struct Group(pub(crate) Arc<Dispatch>);

impl Group {
    /// The group `spec` as world rank `rank` sees it, over a CPU transport. `timeout` bounds every
    /// wait for a peer.
    ///
    /// # Panics
    /// If `rank` is not a member.
    pub fn new(
        spec: GroupSpec,
        rank: usize,
        transport: Arc<dyn Transport>,
        abort: Abort,
        timeout: Duration,
        trace: Trace,
    ) -> Group {
        let cpu = Cpu::new(spec, rank, transport, timeout, trace.clone());
        Self::over(Arc::new(cpu), None, abort, trace)
    }

    pub(crate) fn over(
        cpu: Arc<Cpu>,
        gpu: Option<Arc<dyn OnGpu>>,
        abort: Abort,
        trace: Trace,
    ) -> Group {
        Group(Arc::new(Dispatch::new(cpu, gpu, abort, trace)))
    }

    /// This rank's place in the group.
    pub fn rank(&self) -> usize {
        self.0.cpu.rank()
    }

    /// Members of the group.
    pub fn size(&self) -> usize {
        self.0.cpu.size()
    }

    /// The group's name, `dp` for instance.
    pub fn name(&self) -> &'static str {
        self.0.cpu.spec().name
    }

    /// Bytes of tensors that this rank has sent to the group so far. Headers are not counted.
    pub fn bytes_sent(&self) -> u64 {
        let on_gpu = self.0.gpu.as_ref().map_or(0, |gpu| gpu.bytes_sent());
        self.0.cpu.bytes_sent() + on_gpu
    }

    /// Replaces `tensor` by the sum over all ranks, on all ranks. Takes f64, f32, bf16, f16, i64,
    /// i32 and u8 of any shape, and tensors that are not contiguous too; bf16 and f16 are added in
    /// f32, and rounded after each addition.
    ///
    /// Sends 2(n-1)/n of the buffer where n divides its length. In general see
    /// [`all_reduce_bytes`](crate::all_reduce_bytes).
    pub fn all_reduce(&self, tensor: &Tensor) -> Result<()> {
        self.all_reduce_op(tensor, ReduceOp::Sum)
    }

    /// [`all_reduce`](Self::all_reduce) with another operation. `Max` propagates NaN, except on
    /// GPUs: NCCL takes the other number.
    pub fn all_reduce_op(&self, tensor: &Tensor, op: ReduceOp) -> Result<()> {
        self.0.run(Queue::Collectives, "all_reduce", tensor, move |b, t| b.all_reduce(t, op))
    }

    /// Non-blocking [`all_reduce`](Self::all_reduce).
    pub fn all_reduce_async(&self, tensor: &Tensor) -> Work<()> {
        self.0
            .start(Queue::Collectives, "all_reduce", tensor, |b, t| b.all_reduce(t, ReduceOp::Sum))
    }

    /// Replaces `tensor` by that of group rank `root`, on all ranks. The ranks form a chain that
    /// starts at the root; each but the last sends the tensor once.
    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()> {
        self.0.run(Queue::Collectives, "broadcast", tensor, move |b, t| b.broadcast(t, root))
    }

    /// Sends `tensor` to group rank `to`, which receives it with [`recv`](Self::recv). May wait
    /// until it does; two ranks that send to each other at once use [`isend`](Self::isend).
    pub fn send(&self, tensor: &Tensor, to: usize) -> Result<()> {
        self.check_peer("send", to)?;
        self.0.run(Queue::To(to), "send", tensor, move |b, t| b.send(t, to))
    }

    /// Non-blocking [`send`](Self::send).
    pub fn isend(&self, tensor: &Tensor, to: usize) -> Work<()> {
        match self.check_peer("send", to) {
            Ok(()) => self.0.start(Queue::To(to), "send", tensor, move |b, t| b.send(t, to)),
            Err(e) => Work::ended(Err(e)),
        }
    }

    /// Receives into `tensor` what group rank `from` sends, of equal length and dtype.
    pub fn recv(&self, tensor: &Tensor, from: usize) -> Result<()> {
        self.check_peer("recv", from)?;
        self.0.run(Queue::From(from), "recv", tensor, move |b, t| b.recv(t, from))
    }

    /// Non-blocking [`recv`](Self::recv). The [`Work`] hands back `tensor` itself, filled.
    pub fn irecv(&self, tensor: &Tensor, from: usize) -> Work<Tensor> {
        if let Err(e) = self.check_peer("recv", from) {
            return Work::ended(Err(e));
        }
        self.0.start(Queue::From(from), "recv", tensor, move |b, t| {
            b.recv(t, from)?;
            Ok(t.shallow_clone())
        })
    }

    /// Returns once every rank of the group has called it. Does not wait for work that is
    /// queued on GPUs.
    pub fn barrier(&self) -> Result<()> {
        self.0.run_on_cpu(Queue::Collectives, "barrier", |b| b.barrier())
    }

    /// The highest of the numbers that the ranks bring, on all of them: for what they must agree
    /// on. Like [`barrier`](Self::barrier), it takes log2(n) short messages one after the other.
    pub fn highest(&self, mine: u64) -> Result<u64> {
        self.0.run_on_cpu(Queue::Collectives, "highest", move |b| b.highest(mine))
    }

    fn check_peer(&self, op: &str, peer: usize) -> Result<()> {
        if peer < self.size() && peer != self.rank() {
            return Ok(());
        }
        let (op, group) = (op.to_owned(), self.name().to_owned());
        let (last, rank) = (self.size() - 1, self.rank());
        let hint =
            format!("ranks are 0 to {last}, and a rank does not send to itself (it is {rank})");
        Err(self.0.refuse(CommError::Peer { op, group, peer, hint }))
    }
}
