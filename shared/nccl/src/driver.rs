//! What moving tensors between GPUs needs of a GPU and of NCCL.

use comm::ReduceOp;
use report::Mark;
use std::sync::Arc;
use tch::{Device, Tensor};

/// The seam between the order in which things are queued, which tests on any machine can watch, and
/// the libraries that do them. Errors are clauses; the caller adds who, where and what.
///
/// A *stream* runs what is queued on it in order; an *event* is a point in a stream.
pub(crate) trait Driver: Send + Sync + 'static {
    type Stream: Send + Sync;
    type Event: Send + Sync;
    type Comm: Send + Sync;

    /// Where this rank's tensors are.
    fn device(&self) -> Device;
    /// Makes its GPU the calling thread's current one. A thread that touches events without it
    /// opens GPU 0 too, which takes half a gigabyte for each process.
    fn enter(&self) -> anyhow::Result<()>;
    /// The stream on which the calling thread's tensor operations run.
    fn compute(&self) -> anyhow::Result<Self::Stream>;
    /// A stream beside it.
    fn side(&self) -> anyhow::Result<Self::Stream>;
    /// The end of what is queued on `stream` so far.
    fn record(&self, stream: &Self::Stream) -> anyhow::Result<Self::Event>;
    /// What is queued on `stream` from now on starts after `event`.
    fn wait(&self, stream: &Self::Stream, event: &Self::Event) -> anyhow::Result<()>;
    /// Whether the GPU has passed `event`; does not wait.
    fn is_done(&self, event: &Self::Event) -> anyhow::Result<bool>;
    /// The same for the times in a trace.
    fn mark(&self, stream: &Self::Stream) -> anyhow::Result<Box<dyn Mark>>;

    /// The id that all members of a new communicator must have.
    fn unique_id(&self) -> anyhow::Result<Id>;
    /// Makes one; returns when all `size` members have called it.
    fn init(&self, id: &Id, rank: usize, size: usize) -> anyhow::Result<Self::Comm>;
    /// Queues an operation on `stream`.
    fn call(&self, comm: &Self::Comm, stream: &Self::Stream, call: &Call) -> anyhow::Result<()>;
    /// A failure that came to light after its call had returned.
    fn failure(&self, comm: &Self::Comm) -> Option<String>;
    /// Ends communicators and everything queued on them: all at once, since each may wait
    /// on the GPU until another is ended. A communicator that a thread is calling at the
    /// moment is left alone.
    fn abort(&self, comms: &[Arc<Self::Comm>]);
}

/// `ncclUniqueId`.
pub(crate) type Id = [u8; 128];

/// An operation of NCCL on contiguous tensors, with peers as ranks of the communicator.
#[derive(Debug)]
pub(crate) enum Call<'a> {
    AllReduce {
        tensor: &'a Tensor,
        op: ReduceOp,
    },
    /// Each of the `strips` of `input` holds a part for every rank.
    ReduceScatter {
        input: &'a Tensor,
        output: &'a Tensor,
        strips: usize,
    },
    /// Each of the `strips` of `output` takes a part of every rank's `input`.
    AllGather {
        input: &'a Tensor,
        output: &'a Tensor,
        strips: usize,
    },
    Broadcast {
        tensor: &'a Tensor,
        root: usize,
    },
    Send {
        tensor: &'a Tensor,
        peer: usize,
    },
    Recv {
        tensor: &'a Tensor,
        peer: usize,
    },
}

impl Call<'_> {
    /// All tensors that it reads or writes.
    pub fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Self::AllReduce { tensor, .. }
            | Self::Broadcast { tensor, .. }
            | Self::Send { tensor, .. }
            | Self::Recv { tensor, .. } => vec![tensor],
            Self::ReduceScatter { input, output, .. } | Self::AllGather { input, output, .. } => {
                vec![input, output]
            }
        }
    }
}
