//! Worlds for the tests of collectives: every rank is a thread, with either transport.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use comm::transport::Transport;
use comm::{Abort, CommError, Group, Layout, thread_transports};
use launch::TcpTransport;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Over {
    Threads,
    Tcp,
}

/// Long enough for any machine; a test that runs into it has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// One transport for each rank of a new world.
pub fn transports(over: Over, world: usize, abort: &Abort) -> Vec<Arc<dyn Transport>> {
    if over == Over::Threads {
        return thread_transports(world, abort.clone());
    }
    let listen = |_| TcpListener::bind("127.0.0.1:0").unwrap();
    let listeners: Vec<_> = (0..world).map(listen).collect();
    let peers: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    let transport = |(rank, listener)| {
        let peers = peers.clone();
        TcpTransport::new(rank, listener, peers, [7; 32], abort.clone()).unwrap()
            as Arc<dyn Transport>
    };
    listeners.into_iter().enumerate().map(transport).collect()
}

/// The group of all ranks, as `rank` sees it.
pub fn group(
    rank: usize,
    world: usize,
    transport: Arc<dyn Transport>,
    abort: &Abort,
    timeout: Duration,
    trace: report::Trace,
) -> Group {
    let spec = Layout { dp: world, ..Layout::default() }.group("dp", rank);
    Group::new(spec, rank, transport, abort.clone(), timeout, trace)
}

/// Runs `rank_main` on every rank of a new world; what they return, by rank.
pub fn run<T: Send>(over: Over, world: usize, rank_main: impl Fn(&Group) -> T + Sync) -> Vec<T> {
    run_with(over, world, PATIENCE, |group, _| rank_main(group))
}

pub fn run_with<T: Send>(
    over: Over,
    world: usize,
    timeout: Duration,
    rank_main: impl Fn(&Group, &Abort) -> T + Sync,
) -> Vec<T> {
    let abort = Abort::new();
    let (rank_main, abort) = (&rank_main, &abort);
    thread::scope(|scope| {
        let start = |(rank, transport)| {
            scope.spawn(move || {
                let off = report::Trace::off();
                let group = group(rank, world, transport, abort, timeout, off);
                rank_main(&group, abort)
            })
        };
        let transports = transports(over, world, abort).into_iter().enumerate();
        let ranks: Vec<_> = transports.map(start).collect();
        ranks.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

/// Small whole numbers that differ from rank to rank. Their sum over eight ranks is exact in every
/// dtype (at most 80, and bf16 holds whole numbers up to 256).
pub fn numbers(rank: usize, shape: &[i64], kind: Kind) -> Tensor {
    let numel: i64 = shape.iter().product();
    let count = Tensor::arange(numel, (Kind::Int64, Device::Cpu));
    let modulus = if kind == Kind::Bool { 2 } else { 11 };
    let numbers = (count * 7 + rank as i64 * 13).remainder(modulus);
    numbers.to_kind(kind).reshape(shape)
}

/// Bit-for-bit equality, of shapes and dtypes too.
pub fn same(a: &Tensor, b: &Tensor) -> bool {
    a.size() == b.size() && a.kind() == b.kind() && bits(a) == bits(b)
}

pub fn bits(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    let numel = tensor.numel();
    if numel > 0 {
        tensor.copy_data_u8(&mut bytes, numel);
    }
    bytes
}

/// True for the error itself, or for one that another rank's error has caused.
pub fn speaks_of(error: &CommError, words: &[&str]) -> bool {
    let text = error.to_string();
    words.iter().all(|w| text.contains(w))
}
