//! A driver that does nothing and writes down what it is asked.

use crate::driver::{Call, Driver, Id};
use anyhow::ensure;
use comm::backend::Backend;
use report::Mark;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// Streams and events are numbers; stream 0 computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Record(usize, usize),
    Wait(usize, usize),
    Call(usize, &'static str),
}

/// Where the members of a new communicator meet: how many have come, by id.
pub type Hall = Arc<(Mutex<BTreeMap<Id, usize>>, Condvar)>;

#[derive(Default)]
pub struct Fake {
    pub hall: Hall,
    pub asked: Mutex<Vec<Asked>>,
    pub streams: AtomicUsize,
    pub events: AtomicUsize,
    pub passed: Mutex<BTreeSet<usize>>,
    pub inits: AtomicUsize,
    pub aborted: AtomicUsize,
    pub dropped: Arc<AtomicUsize>,
    /// Whether neither calls nor questions return.
    pub held: AtomicBool,
    pub failure: Mutex<Option<String>>,
    /// Threads that have made the GPU their own, and threads that have asked for events.
    pub entered: Mutex<HashSet<ThreadId>>,
    pub asking: Mutex<HashSet<ThreadId>>,
}

impl Fake {
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn while_held(&self) {
        while self.held.load(SeqCst) {
            thread::yield_now();
        }
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap().push(asked);
    }
}

impl Driver for Fake {
    type Stream = usize;
    type Event = usize;
    type Comm = Comm;

    fn device(&self) -> Device {
        Device::Cpu
    }
    fn enter(&self) -> anyhow::Result<()> {
        self.entered.lock().unwrap().insert(thread::current().id());
        Ok(())
    }
    fn compute(&self) -> anyhow::Result<usize> {
        Ok(0)
    }
    fn side(&self) -> anyhow::Result<usize> {
        Ok(self.streams.fetch_add(1, SeqCst) + 1)
    }
    fn record(&self, stream: &usize) -> anyhow::Result<usize> {
        let event = self.events.fetch_add(1, SeqCst);
        self.note(Asked::Record(*stream, event));
        Ok(event)
    }
    fn wait(&self, stream: &usize, event: &usize) -> anyhow::Result<()> {
        self.note(Asked::Wait(*stream, *event));
        Ok(())
    }
    fn is_done(&self, event: &usize) -> anyhow::Result<bool> {
        self.asking.lock().unwrap().insert(thread::current().id());
        self.while_held();
        Ok(self.passed.lock().unwrap().contains(event))
    }
    fn mark(&self, _: &usize) -> anyhow::Result<Box<dyn Mark>> {
        anyhow::bail!("nothing is traced here")
    }
    fn unique_id(&self) -> anyhow::Result<Id> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let mut id = [7; 128];
        id[..8].copy_from_slice(&NEXT.fetch_add(1, SeqCst).to_le_bytes());
        Ok(id)
    }
    /// Waits for the others, as NCCL does; ten seconds are for ever.
    fn init(&self, id: &Id, _: usize, size: usize) -> anyhow::Result<Comm> {
        self.inits.fetch_add(1, SeqCst);
        let (came, changed) = &*self.hall;
        let mut came = came.lock().unwrap();
        *came.entry(*id).or_default() += 1;
        changed.notify_all();
        let missing = |came: &mut BTreeMap<Id, usize>| came[id] < size;
        let limit = Duration::from_secs(10);
        let (came, _) = changed.wait_timeout_while(came, limit, missing).unwrap();
        ensure!(came[id] == size, "only {} of {size} members came", came[id]);
        Ok(Comm(self.dropped.clone()))
    }
    fn call(&self, _: &Comm, stream: &usize, call: &Call) -> anyhow::Result<()> {
        let name = match call {
            Call::AllReduce { tensor, .. } => {
                let _ = tensor.shallow_clone().g_add_(tensor); // as if all ranks had the same
                "all_reduce"
            }
            Call::ReduceScatter { .. } => "reduce_scatter",
            Call::AllGather { .. } => "all_gather",
            Call::Broadcast { .. } => "broadcast",
            Call::Send { .. } => "send",
            Call::Recv { .. } => "recv",
        };
        self.note(Asked::Call(*stream, name));
        self.while_held();
        Ok(())
    }
    fn failure(&self, _: &Comm) -> Option<String> {
        self.failure.lock().unwrap().clone()
    }
    fn abort(&self, comms: &[Arc<Comm>]) {
        self.aborted.fetch_add(comms.len(), SeqCst);
    }
}

/// Counts how many like it have been dropped.
pub struct Comm(Arc<AtomicUsize>);

impl Drop for Comm {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A run that no signal ends.
pub struct NoInterrupts;

impl comm::Interrupts for NoInterrupts {
    fn saves(&self) -> bool {
        false
    }
    fn told(&self) -> Option<i32> {
        None
    }
    fn agree(&self, _: i32) {}
}

/// Four ones, and room for those of two ranks.
pub fn pair(kind: Kind) -> (Tensor, Tensor) {
    (Tensor::ones([4], (kind, Device::Cpu)), Tensor::ones([8], (kind, Device::Cpu)))
}

/// An all-gather whose tensors nobody holds afterwards.
pub fn gather(nccl: &impl Backend) {
    let (tensor, all) = pair(Kind::Float);
    nccl.all_gather(&tensor, &all, 0).unwrap();
}
