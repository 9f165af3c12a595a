//! A timeout is the longest time in which *nothing* moves, however long all of it takes.

mod ranks;

use comm::transport::{Call, Channel, Header, Incoming, OpCode, Outgoing, Transport};
use comm::{Abort, Group, Layout, thread_transports};
use launch::TcpTransport;
use ranks::{group, numbers, same};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tch::Kind;

const TIMEOUT: Duration = Duration::from_millis(500);

/// A way to `to` on which a few bytes move every few milliseconds. Those of the first
/// greeting pass at once.
fn slow_way(to: SocketAddr) -> SocketAddr {
    const PORTION: usize = 64 << 10;
    fn carry(mut from: TcpStream, mut to: TcpStream) {
        let mut portion = vec![0; PORTION];
        while let Ok(n @ 1..) = from.read(&mut portion) {
            if to.write_all(&portion[..n]).is_err() {
                return;
            }
            if n > 1000 {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    thread::spawn(move || {
        for from in listener.incoming().map_while(Result::ok) {
            let on = TcpStream::connect(to).unwrap();
            let (from_2, on_2) = (from.try_clone().unwrap(), on.try_clone().unwrap());
            thread::spawn(move || carry(from, on));
            thread::spawn(move || carry(on_2, from_2));
        }
    });
    here
}

/// Runs `rank_main` on two ranks with slow ways between them.
fn over_slow_ways(rank_main: impl Fn(&Group) + Sync) {
    let abort = Abort::new();
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let peers: Vec<_> = listeners.iter().map(|l| slow_way(l.local_addr().unwrap())).collect();
    thread::scope(|scope| {
        for (rank, listener) in listeners.into_iter().enumerate() {
            let (peers, abort, rank_main) = (peers.clone(), abort.clone(), &rank_main);
            scope.spawn(move || {
                let way = TcpTransport::new(rank, listener, peers, [7; 32], abort.clone());
                let off = report::Trace::off();
                rank_main(&group(rank, 2, way.unwrap(), &abort, TIMEOUT, off));
            });
        }
    });
}

#[test]
fn a_slow_network_that_moves_is_waited_for() {
    let since = Instant::now();
    over_slow_ways(|group| {
        let tensor = numbers(group.rank(), &[4 << 20], Kind::Float); // 16 MiB
        match group.rank() {
            0 => group.send(&tensor, 1).unwrap(),
            _ => {
                group.recv(&tensor, 0).unwrap();
                assert!(same(&tensor, &numbers(0, &[4 << 20], Kind::Float)));
            }
        }
    });
    assert!(since.elapsed() > 3 * TIMEOUT, "it took {:?} only", since.elapsed());
}

/// Between threads, what takes long is what the receiver does with the bytes.
#[test]
fn a_receiver_that_combines_for_long_is_waited_for() {
    fn slowly(into: &mut [u8], bytes: &[u8]) {
        thread::sleep(4 * TIMEOUT);
        into.copy_from_slice(bytes);
    }
    let abort = Abort::new();
    let ways: Vec<Arc<dyn Transport>> = thread_transports(2, abort);
    let spec = Layout { dp: 2, ..Layout::default() }.group("dp", 0);
    let header = Header { op: OpCode::SendRecv, dtype: 8, root: 0, numel: 4 };
    let call = |rank| Call { header, group: &spec, rank, timeout: TIMEOUT };
    let channel = Channel { group: 3, lane: 0 };
    thread::scope(|scope| {
        scope.spawn(|| {
            let out = Outgoing { to: 1, bytes: &[1, 2, 3, 4] };
            ways[0].exchange(channel, Some(out), None, &call(0)).unwrap();
        });
        let mut into = [0; 4];
        let incoming = Incoming { from: 0, into: &mut into, combine: Some(slowly) };
        ways[1].exchange(channel, None, Some(incoming), &call(1)).unwrap();
        assert_eq!(into, [1, 2, 3, 4]);
    });
}
