//! What a rank hears when its peers do something else, or nothing, or die.

mod ranks;

use comm::{Abort, CommError, Group, ReduceOp, Result};
use launch::TcpTransport;
use ranks::{Over, PATIENCE, group, numbers, run, run_with, speaks_of};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

fn ones(len: i64, kind: Kind) -> Tensor {
    Tensor::ones([len], (kind, Device::Cpu))
}

/// Runs a call that differs by rank: each must fail, one at least with a mismatch that says both.
fn mismatch(call: impl Fn(&Group) -> Result<()> + Sync, words: [&str; 2]) {
    for over in [Over::Threads, Over::Tcp] {
        for world in [2, 3] {
            let errors = run(over, world, |g| call(g).expect_err("the calls differ"));
            let plain = |e: &&CommError| matches!(e, CommError::Mismatch { .. });
            let mismatch = errors.iter().find(plain).expect("one that says so");
            assert!(speaks_of(mismatch, &words), "{mismatch}");
            assert!(speaks_of(mismatch, &["rank dp1 pp0 cp0 tp0", "group dp"]), "{mismatch}");
            let others = errors.iter().all(|e| speaks_of(e, &["make the same calls"]));
            assert!(others, "{errors:?}");
        }
    }
}

#[test]
fn different_calls_are_a_mismatch() {
    let len = |g: &Group| if g.rank() == 1 { 5 } else { 4 };
    mismatch(
        |g| g.all_reduce(&ones(len(g), Kind::Float)),
        ["all_reduce of 4 f32", "all_reduce of 5 f32"],
    );
    mismatch(
        |g| g.all_gather(&ones(len(g), Kind::Float)).map(drop),
        ["all_gather of 4 f32", "all_gather of 5 f32"],
    );
    let kind = |g: &Group| if g.rank() == 1 { Kind::Int } else { Kind::Float };
    mismatch(|g| g.all_reduce(&ones(4, kind(g))), ["all_reduce of 4 f32", "all_reduce of 4 i32"]);
    mismatch(
        |g| match g.rank() {
            1 => g.all_reduce(&ones(4, Kind::Float)),
            _ => g.all_reduce_op(&ones(4, Kind::Float), ReduceOp::Max),
        },
        ["all_reduce of 4 f32", "all_reduce(max) of 4 f32"],
    );
    mismatch(
        |g| match g.rank() {
            1 => g.barrier(),
            _ => g.all_reduce(&ones(4, Kind::Float)),
        },
        ["all_reduce of 4 f32", "barrier"],
    );
}

#[test]
fn a_message_of_another_length_is_a_mismatch() {
    for over in [Over::Threads, Over::Tcp] {
        let results = run(over, 2, |g| match g.rank() {
            0 => g.send(&ones(3, Kind::Float), 1),
            _ => g.recv(&ones(4, Kind::Float), 0),
        });
        let error = results[1].as_ref().expect_err("lengths differ");
        assert!(speaks_of(error, &["send/recv of 3 f32", "send/recv of 4 f32"]), "{error}");
    }
}

#[test]
fn arguments_that_cannot_be_are_refused_before_anything_moves() {
    run(Over::Threads, 2, |g| {
        // Each of these fails on one rank alone, so they must not wait for the other.
        let odd = g.reduce_scatter(&ones(3, Kind::Float)).expect_err("3 rows on 2 ranks");
        assert!(speaks_of(&odd, &["[3]", "multiple of 2"]), "{odd}");
        let truth = g.all_reduce(&ones(3, Kind::Bool)).expect_err("no sum of truths");
        assert!(speaks_of(&truth, &["all_reduce", "Bool"]), "{truth}");
        let complex = g.all_gather(&ones(3, Kind::ComplexFloat)).expect_err("not moved");
        assert!(matches!(complex, CommError::Dtype { .. }), "{complex}");
        let outside = g.send(&ones(3, Kind::Float), 2).expect_err("no such rank");
        assert!(speaks_of(&outside, &["rank 2", "0 to 1"]), "{outside}");
        let itself = g.irecv(&ones(3, Kind::Float), g.rank()).wait();
        assert!(matches!(itself, Err(CommError::Peer { .. })));
    });
}

#[test]
fn a_peer_that_does_not_come_is_named() {
    for over in [Over::Threads, Over::Tcp] {
        let limit = Duration::from_millis(200);
        let results = run_with(over, 3, limit, |g, abort| match g.rank() {
            1 => {
                // Alive, but elsewhere.
                abort.wait(PATIENCE);
                Ok(())
            }
            _ => g.all_reduce(&ones(4, Kind::Float)),
        });
        let timeout = |e: &&CommError| matches!(e, CommError::Timeout { .. });
        let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        let error = errors.iter().find(timeout).expect("a timeout");
        assert!(speaks_of(error, &["waited 0.2 s", "all_reduce", "group dp"]), "{error}");
        // With two ranks it is clear who waits for whom: before they have ever spoken, and after.
        for spoken in [false, true] {
            let results = run_with(over, 2, limit, |g, abort| {
                if spoken {
                    g.barrier()?;
                }
                if g.rank() == 1 {
                    abort.wait(PATIENCE);
                    return Ok(());
                }
                g.all_reduce(&ones(4, Kind::Float))
            });
            let error = results[0].as_ref().expect_err("nobody comes");
            assert!(
                speaks_of(error, &["rank dp0 pp0 cp0 tp0 waited", "for rank dp1 pp0 cp0 tp0"]),
                "{error}"
            );
        }
    }
    let limit = Duration::from_millis(200);
    let results = run_with(Over::Threads, 2, limit, |g, _| match g.rank() {
        1 => Ok(()),
        _ => g.send(&ones(4, Kind::Float), 1),
    });
    let error = results[0].as_ref().expect_err("nobody receives");
    assert!(
        speaks_of(error, &["rank dp0 pp0 cp0 tp0 waited", "for rank dp1 pp0 cp0 tp0"]),
        "{error}"
    );
}

#[test]
fn an_abort_ends_every_wait() {
    for over in [Over::Threads, Over::Tcp] {
        let results = run_with(over, 3, PATIENCE, |g, abort| match g.rank() {
            0 => {
                thread::sleep(Duration::from_millis(20));
                abort.raise("rank dp0 pp0 cp0 tp0 has had enough");
                Ok(())
            }
            1 => g.all_reduce(&ones(4, Kind::Float)),
            _ => g.irecv(&ones(4, Kind::Float), 0).wait().map(drop),
        });
        for result in &results[1..] {
            let error = result.as_ref().expect_err("it was stopped");
            assert!(speaks_of(error, &["had enough"]), "{error}");
        }
    }
}

/// A sender whose message has been taken back must not be read from any more.
#[test]
fn a_message_taken_back_is_gone() {
    let results = run_with(Over::Threads, 2, Duration::from_millis(30), |g, _| match g.rank() {
        0 => g.send(&numbers(0, &[1 << 16], Kind::Float), 1), // freed when this returns
        _ => {
            thread::sleep(Duration::from_millis(300));
            g.recv(&numbers(1, &[1 << 16], Kind::Float), 0)
        }
    });
    assert!(results.iter().all(Result::is_err), "{results:?}");
}

/// Two ranks of a TCP world whose secrets, and whose addresses, can be chosen.
fn tcp_pair(secrets: [[u8; 32]; 2], abort: &Abort) -> (Vec<Arc<TcpTransport>>, Vec<SocketAddr>) {
    let listeners: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let peers: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    let ranks = listeners.into_iter().enumerate();
    let transport = |(rank, listener)| {
        TcpTransport::new(rank, listener, peers.clone(), secrets[rank], abort.clone()).unwrap()
    };
    (ranks.map(transport).collect(), peers)
}

#[test]
fn a_peer_that_dies_is_lost() {
    let abort = Abort::new();
    let (mut transports, _) = tcp_pair([[1; 32]; 2], &abort);
    let off = report::Trace::off;
    let survivor = group(0, 2, transports.remove(0), &abort, PATIENCE, off());
    let victim = group(1, 2, transports.remove(0), &Abort::new(), PATIENCE, off());
    let dies = thread::spawn(move || {
        victim.all_reduce(&ones(4, Kind::Float)).unwrap();
        drop(victim); // and with it, its connections
    });
    survivor.all_reduce(&ones(4, Kind::Float)).unwrap();
    dies.join().unwrap();
    let error = survivor.all_reduce(&ones(4, Kind::Float)).expect_err("it is gone");
    assert!(matches!(error, CommError::Lost { .. }), "{error}");
    let words = ["rank dp0 pp0 cp0 tp0 lost rank dp1 pp0 cp0 tp0", "all_reduce", "group dp"];
    assert!(speaks_of(&error, &words), "{error}");
    assert!(abort.is_raised());
}

#[test]
fn strangers_are_turned_away_and_disturb_nobody() {
    let abort = Abort::new();
    let (transports, peers) = tcp_pair([[1; 32]; 2], &abort);
    // One who says nothing, one who hangs up, and one who answers without the secret.
    let silent = TcpStream::connect(peers[0]).unwrap();
    drop(TcpStream::connect(peers[0]).unwrap());
    let mut guesser = TcpStream::connect(peers[0]).unwrap();
    guesser.read_exact(&mut [0; 32]).unwrap();
    let mut hello = Vec::new();
    for word in [3u32, 0, 1, 0] {
        hello.extend_from_slice(&word.to_le_bytes()); // as rank 1 would
    }
    hello.extend_from_slice(&[1; 32]);
    guesser.write_all(&hello).unwrap();
    guesser.set_read_timeout(Some(Duration::from_secs(9))).unwrap();
    let closed = match guesser.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(e) => e.kind() == ErrorKind::ConnectionReset,
    };
    assert!(closed, "it was let in");

    thread::scope(|scope| {
        for (rank, transport) in transports.into_iter().enumerate() {
            let abort = &abort;
            scope.spawn(move || {
                let off = report::Trace::off();
                let group = group(rank, 2, transport, abort, PATIENCE, off);
                let tensor = ones(1000, Kind::Float);
                group.all_reduce(&tensor).unwrap();
                assert_eq!(tensor.sum(Kind::Float).double_value(&[]), 2000.);
            });
        }
    });
    drop(silent);
}

#[test]
fn a_rank_with_another_secret_is_not_admitted() {
    // More than the buffers on the way hold: sent only where somebody takes it.
    let message = ones(1 << 22, Kind::Float);
    let send = |secrets| {
        let abort = &Abort::new();
        let (mut transports, _) = tcp_pair(secrets, abort);
        let off = report::Trace::off;
        let sender = group(1, 2, transports.pop().unwrap(), abort, PATIENCE, off());
        let receiver = group(0, 2, transports.pop().unwrap(), abort, PATIENCE, off());
        thread::scope(|scope| {
            scope.spawn(move || receiver.recv(&ones(1 << 22, Kind::Float), 1));
            sender.send(&message, 0)
        })
    };
    send([[1; 32], [1; 32]]).unwrap();
    let turned_away = send([[1; 32], [2; 32]]).expect_err("the secrets differ");
    assert!(matches!(turned_away, CommError::Lost { .. }), "{turned_away}");
}
