//! A group's communicators between its ranks' GPUs, and when they are made.

use crate::channel::{Channel, Queued};
use crate::driver::{Call, Driver, Id};
use crate::pending::Label;
use crate::watch::Watch;
use comm::backend::{Backend, Done, OnGpu, Queue};
use comm::sync::lock;
use comm::{Connect, Cpu, Result};
use report::{Trace, Track};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor};

/// By sender and receiver.
type Pairs<D> = BTreeMap<(usize, usize), Arc<Channel<D>>>;

pub(crate) struct Nccl<D: Driver> {
    /// The same group on CPU tensors.
    pub(crate) cpu: Arc<Cpu>,
    /// The same in lanes of its own, to agree on communicators: any thread may be the first to need
    /// one, whatever CPU tensors the group is moving at that time.
    agree: Cpu,
    watch: Arc<Watch<D>>,
    trace: Trace,
    /// For collectives.
    all: Mutex<Option<Arc<Channel<D>>>>,
    /// For messages: one for each sender and receiver. On a shared one, two ranks that both receive
    /// first would wait for each other for ever.
    pairs: Mutex<Pairs<D>>,
    pub(crate) sent: AtomicU64,
}

impl<D: Driver> Nccl<D> {
    pub fn new(cpu: Arc<Cpu>, watch: Arc<Watch<D>>, trace: Trace) -> Self {
        let (all, pairs, sent) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        Self { agree: cpu.beside(), cpu, watch, trace, all, pairs, sent }
    }

    /// Makes the communicators that a run needs, in an order that is the same on all ranks.
    /// Without it each is made when it is first used, and its members wait for each other there,
    /// which may be in the wrong order: a stage that asks for the first gradient before it has
    /// sent an activation.
    pub fn connect(&self, ahead: Connect) -> Result<()> {
        let n = self.size();
        if n == 1 || ahead == Connect::WhenUsed {
            return Ok(());
        }
        self.collectives()?;
        // Every other pair first, since these have no rank in common: one after the other around
        // the ring, n pairs would take n times as long.
        for from in (0..n).step_by(2).chain((1..n).step_by(2)) {
            let to = (from + 1) % n;
            let pairs = match ahead {
                Connect::WhenUsed | Connect::Collectives => vec![],
                Connect::AndNext => vec![(from, to)],
                Connect::AndBoth => vec![(from, to), (to, from)],
            };
            for (from, to) in pairs {
                if from == self.rank() || to == self.rank() {
                    self.pair(from, to)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn rank(&self) -> usize {
        self.cpu.rank()
    }

    pub(crate) fn size(&self) -> usize {
        self.cpu.size()
    }

    fn label(&self, op: &'static str, peer: String) -> Label {
        Label { op, group: self.cpu.spec().name, peer }
    }

    pub(crate) fn collectives(&self) -> Result<Arc<Channel<D>>> {
        let mut all = lock(&self.all);
        if let Some(channel) = &*all {
            return Ok(channel.clone());
        }
        let others = (0..self.size()).filter(|&rank| rank != self.rank());
        let others: Vec<String> = others.map(|rank| self.cpu.coords(rank).to_string()).collect();
        let label = self.label("connect", others.join(", "));
        let share = |id: &Tensor| self.agree.broadcast(id, 0);
        let (rank, size) = (self.rank(), self.size());
        let channel = Arc::new(self.channel(label, rank == 0, share, rank, size)?);
        *all = Some(channel.clone());
        Ok(channel)
    }

    /// The channel for messages of group rank `from` to group rank `to`, of whom this rank is one.
    pub(crate) fn pair(&self, from: usize, to: usize) -> Result<Arc<Channel<D>>> {
        let mut pairs = lock(&self.pairs);
        if let Some(channel) = pairs.get(&(from, to)) {
            return Ok(channel.clone());
        }
        let sends = self.rank() == from;
        let peer = if sends { to } else { from };
        let label = self.label("connect", self.cpu.coords(peer).to_string());
        let share = |id: &Tensor| {
            if sends { self.agree.send(id, to) } else { self.agree.recv(id, from) }
        };
        let channel = self.channel(label, sends, share, usize::from(!sends), 2)?;
        // NCCL connects two ranks at their first message, and both wait there, so one is sent here.
        let first = Tensor::zeros([1], (Kind::Float, self.watch.driver.device()));
        channel.launch("connect", 0, &message(sends, &first))?;
        let channel = Arc::new(channel);
        pairs.insert((from, to), channel.clone());
        Ok(channel)
    }

    /// Makes a communicator. Its first member draws the id, and `share` brings it to the others.
    fn channel(
        &self,
        label: Label,
        first: bool,
        share: impl Fn(&Tensor) -> Result<()>,
        rank: usize,
        size: usize,
    ) -> Result<Channel<D>> {
        let driver = &*self.watch.driver;
        let failed = |e: anyhow::Error| self.watch.failed(&label, format!("{e:#}"));
        let id = if first {
            Tensor::from_slice(&driver.unique_id().map_err(failed)?)
        } else {
            Tensor::zeros([size_of::<Id>() as i64], (Kind::Uint8, Device::Cpu))
        };
        share(&id)?;
        let mut bytes = [0; size_of::<Id>()];
        id.copy_data(&mut bytes, size_of::<Id>());
        let init = || driver.init(&bytes, rank, size).map_err(failed);
        let comm = self.watch.connect(&label, init)?;
        let track = Track::group(self.cpu.spec().name);
        Channel::new(self.watch.clone(), label.clone(), comm, self.trace.clone(), track)
    }
}

/// On a communicator of two, of whom 0 sends.
pub(crate) fn message(sends: bool, tensor: &Tensor) -> Call<'_> {
    if sends { Call::Send { tensor, peer: 1 } } else { Call::Recv { tensor, peer: 0 } }
}

impl<D: Driver> OnGpu for Nccl<D> {
    fn done(&self, queue: Queue) -> Option<Box<dyn Done>> {
        let boxed = |queued: Queued<D>| -> Box<dyn Done> { Box::new(queued) };
        let pair = |from: usize, to: usize| {
            let pairs = lock(&self.pairs);
            pairs.get(&(from, to)).cloned()
        };
        let channel = match queue {
            Queue::Collectives => lock(&self.all).clone(),
            Queue::To(peer) => pair(self.rank(), peer),
            Queue::From(peer) => pair(peer, self.rank()),
        };
        channel?.done().map(boxed)
    }
}
