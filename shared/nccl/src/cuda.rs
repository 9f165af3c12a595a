//! The driver of real GPUs: libtorch's streams and events, and NCCL.

use crate::driver::{Call, Driver, Id};
use crate::ffi::{self, BYTES, Functions, RawComm, nccl};
use crate::times::Times;
use anyhow::{Context, Result, ensure};
use comm::ReduceOp;
use comm::sync::lock;
use gpu::{Event, Stream};
use report::{Clock, Mark};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tch::{Device, Tensor};

/// Streams that libtorch has for a device; the next would be one of these again, and two operations
/// on one stream can wait for each other.
const STREAMS: usize = 32;

pub(crate) struct Cuda {
    ordinal: usize,
    streams: AtomicUsize,
    times: Times,
}

impl Cuda {
    /// For GPU `ordinal`, which becomes the calling thread's own.
    pub fn new(ordinal: usize) -> Result<Self> {
        gpu::set_device(ordinal)?;
        let times = Times::from_now(ordinal)?;
        Ok(Self { ordinal, streams: AtomicUsize::new(0), times })
    }

    /// A clock that shows when the GPU reaches the work that the calling thread queues.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.times.clone())
    }
}

impl Driver for Cuda {
    type Stream = Stream;
    type Event = Event;
    type Comm = Communicator;

    fn device(&self) -> Device {
        Device::Cuda(self.ordinal)
    }

    fn enter(&self) -> Result<()> {
        gpu::set_device(self.ordinal)
    }

    fn compute(&self) -> Result<Stream> {
        Stream::current(self.ordinal)
    }

    fn side(&self) -> Result<Stream> {
        let before = self.streams.fetch_add(1, Ordering::Relaxed);
        ensure!(before < STREAMS, "this rank has {STREAMS} streams in use, and there are no more");
        Stream::side(self.ordinal)
    }

    fn record(&self, stream: &Stream) -> Result<Event> {
        stream.record()
    }

    fn wait(&self, stream: &Stream, event: &Event) -> Result<()> {
        stream.wait(event)
    }

    fn is_done(&self, event: &Event) -> Result<bool> {
        event.is_done()
    }

    fn mark(&self, stream: &Stream) -> Result<Box<dyn Mark>> {
        self.times.mark(stream)
    }

    fn unique_id(&self) -> Result<Id> {
        nccl()?.unique_id()
    }

    fn init(&self, id: &Id, rank: usize, size: usize) -> Result<Communicator> {
        self.enter()?; // NCCL takes the thread's
        let nccl = nccl()?;
        Ok(Communicator { nccl, raw: Mutex::new(nccl.init(id, rank, size)?) })
    }

    fn call(&self, comm: &Communicator, stream: &Stream, call: &Call) -> Result<()> {
        for tensor in call.tensors() {
            let (device, whole) = (tensor.device(), tensor.is_contiguous());
            ensure!(device == self.device() && whole, "{tensor:?} is not contiguous on this GPU");
        }
        let raw = lock(&comm.raw);
        ensure!(!raw.is_null(), "the communicator has been aborted");
        let code = queue(comm.nccl, *raw, stream.handle()?, call)?;
        comm.nccl.check(code, *raw)
    }

    fn failure(&self, comm: &Communicator) -> Option<String> {
        // Whoever holds the lock is inside a call, which will report a failure.
        let raw = comm.raw.try_lock().ok().filter(|raw| !raw.is_null())?;
        // SAFETY: alive, since it is not null; held, so nobody aborts it meanwhile.
        unsafe { comm.nccl.failure(*raw) }
    }

    fn abort(&self, comms: &[Arc<Communicator>]) {
        let Some(first) = comms.first() else { return };
        first.nccl.together(|| comms.iter().for_each(|comm| comm.abort()));
    }
}

/// A communicator of NCCL; null once aborted.
pub(crate) struct Communicator {
    nccl: &'static Functions,
    raw: Mutex<RawComm>,
}

// SAFETY: NCCL allows calls from any thread, one at a time, which the lock sees to.
unsafe impl Send for Communicator {}
// SAFETY: as above.
unsafe impl Sync for Communicator {}

impl Communicator {
    fn abort(&self) {
        // A thread that holds the lock waits inside NCCL for a peer that may have died; aborting
        // cannot free it, and the process ends without it.
        if let Ok(mut raw) = self.raw.try_lock()
            && !raw.is_null()
        {
            let raw = std::mem::replace(&mut *raw, null_mut());
            // SAFETY: alive until now, and nobody can reach it any more. An error would be about
            // what is given up anyway.
            let _ = unsafe { (self.nccl.comm_abort)(raw) };
        }
    }
}

impl Drop for Communicator {
    /// Its work is done, so there is nothing to wait for.
    fn drop(&mut self) {
        self.abort();
    }
}

/// Queues `call`; its tensors are contiguous and on the communicator's GPU.
fn queue(nccl: &Functions, comm: RawComm, stream: *mut c_void, call: &Call) -> Result<c_int> {
    let dtype = |t: &Tensor| ffi::dtype(t.kind()).with_context(|| format!("{:?}", t.kind()));
    let from = |t: &Tensor| t.data_ptr().cast_const();
    let bytes = |t: &Tensor| t.numel() * t.kind().elt_size_in_bytes();
    // SAFETY: the communicator and the stream are alive. Pointers and counts are those of contiguous
    // tensors on the GPU, which the channel keeps alive until the operation's event has passed; that
    // nobody else uses them meanwhile is the promise of whoever starts an operation.
    Ok(unsafe {
        match *call {
            Call::AllReduce { tensor: t, op } => {
                let (from, to, n) = (from(t), t.data_ptr(), t.numel());
                (nccl.all_reduce)(from, to, n, dtype(t)?, ffi::operation(op), comm, stream)
            }
            Call::ReduceScatter { input, output, strips } => {
                let (n, sum) = (output.numel() / strips, ffi::operation(ReduceOp::Sum));
                let dtype = dtype(input)?;
                nccl.each_strip(strips, |strip| {
                    let from = from(input).byte_add(strip * (bytes(input) / strips));
                    let to = output.data_ptr().byte_add(strip * (bytes(output) / strips));
                    (nccl.reduce_scatter)(from, to, n, dtype, sum, comm, stream)
                })
            }
            Call::AllGather { input, output, strips } => {
                let n = bytes(input) / strips;
                nccl.each_strip(strips, |strip| {
                    let from = from(input).byte_add(strip * n);
                    let to = output.data_ptr().byte_add(strip * (bytes(output) / strips));
                    (nccl.all_gather)(from, to, n, BYTES, comm, stream)
                })
            }
            Call::Broadcast { tensor: t, root } => {
                let root = c_int::try_from(root)?;
                (nccl.broadcast)(from(t), t.data_ptr(), bytes(t), BYTES, root, comm, stream)
            }
            Call::Send { tensor: t, peer } => {
                (nccl.send)(from(t), bytes(t), BYTES, c_int::try_from(peer)?, comm, stream)
            }
            Call::Recv { tensor: t, peer } => {
                (nccl.recv)(t.data_ptr(), bytes(t), BYTES, c_int::try_from(peer)?, comm, stream)
            }
        }
    })
}
