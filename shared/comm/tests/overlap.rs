//! Non-blocking operations: they progress on their own, in order, and in both directions.

mod ranks;

use comm::Abort;
use ranks::{Over, PATIENCE, group, numbers, run, run_with, same, speaks_of, transports};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

#[test]
fn an_operation_progresses_while_the_rank_computes() {
    for over in [Over::Threads, Over::Tcp] {
        run(over, 3, |group| {
            let tensor = Tensor::ones([1 << 20], CPU);
            let work = group.all_reduce_async(&tensor);
            let mut busy = Tensor::ones([64, 64], CPU);
            let started = Instant::now();
            while group.bytes_sent() == 0 {
                assert!(started.elapsed() < PATIENCE, "no progress");
                busy = busy.matmul(&busy).tanh(); // nobody has called wait()
            }
            work.wait().unwrap();
            assert_eq!(tensor.mean(Kind::Float).double_value(&[]), 3.);
        });
    }
}

#[test]
fn collectives_run_in_the_order_in_which_they_were_started() {
    for over in [Over::Threads, Over::Tcp] {
        run(over, 4, |group| {
            let tensor = Tensor::ones([5000], CPU);
            // Each multiplies by four, the last one without being queued by name.
            let first = group.all_reduce_async(&tensor);
            let second = group.all_reduce_async(&tensor);
            group.all_reduce(&tensor).unwrap();
            assert_eq!(tensor.mean(Kind::Float).double_value(&[]), 64., "the others are done");
            for work in [first, second] {
                work.wait().unwrap();
            }
        });
    }
}

/// Longer than any buffer on the way, so that a message only leaves when it is received.
#[test]
fn neighbours_may_send_and_receive_in_any_order() {
    let len = 3 << 20;
    for over in [Over::Threads, Over::Tcp] {
        for order in 0..4 {
            run(over, 2, |group| {
                let (rank, other) = (group.rank(), 1 - group.rank());
                let send_first = order >> rank & 1 == 0;
                let incoming = [Tensor::zeros([len], CPU), Tensor::zeros([len], CPU)];
                let mine =
                    [numbers(rank, &[len], Kind::Float), numbers(rank + 2, &[len], Kind::Float)];
                let send = || [group.isend(&mine[0], other), group.isend(&mine[1], other)];
                let recv = || [group.irecv(&incoming[0], other), group.irecv(&incoming[1], other)];
                let (sends, recvs) = if send_first {
                    let sends = send();
                    (sends, recv())
                } else {
                    let recvs = recv();
                    (send(), recvs)
                };
                // The latest first.
                sends.into_iter().rev().for_each(|work| work.wait().unwrap());
                let [second, first] = {
                    let [first, second] = recvs;
                    [second, first].map(|work| work.wait().unwrap())
                };
                assert!(same(&first, &numbers(other, &[len], Kind::Float)));
                assert!(same(&second, &numbers(other + 2, &[len], Kind::Float)));
            });
        }
    }
}

/// Its stream may hold half of a message, and a peer would take the next one for a call
/// of another kind.
#[test]
fn nothing_is_sent_behind_an_operation_that_failed() {
    for over in [Over::Threads, Over::Tcp] {
        let limit = Duration::from_millis(100);
        let results = run_with(over, 2, limit, |group, abort| {
            let first = Tensor::ones([4], CPU);
            if group.rank() == 1 {
                abort.wait(PATIENCE);
                thread::sleep(limit / 2); // whatever the other has queued is on its way
                return group.all_reduce(&first);
            }
            let first = group.all_reduce_async(&first);
            let second = group.all_reduce_async(&Tensor::ones([5], CPU));
            second.wait().expect_err("the first one waits in vain");
            first.wait()
        });
        for result in results {
            let error = result.expect_err("it came too late");
            assert!(speaks_of(&error, &["rank dp0 pp0 cp0 tp0 waited 0.1 s"]), "{error}");
        }
    }
}

#[test]
fn an_operation_that_panics_is_an_error_and_what_is_queued_behind_it_ends() {
    let (done, all) = mpsc::channel();
    thread::spawn(move || {
        for over in [Over::Threads, Over::Tcp] {
            let errors = run(over, 2, |group| {
                // No memory has room for a contiguous copy.
                let huge = Tensor::ones([1], CPU).expand([1 << 50], false);
                let first = group.all_reduce_async(&huge);
                let second = group.all_reduce_async(&Tensor::ones([4], CPU));
                drop(second.wait()); // whatever becomes of it, since the run is over
                first.wait().expect_err("no memory")
            });
            done.send(errors).unwrap();
        }
    });
    for _ in 0..2 {
        for error in all.recv_timeout(PATIENCE).expect("an operation never ends") {
            let words = ["failed in all_reduce on group dp: it panicked at ", "allocate"];
            assert!(speaks_of(&error, &words), "{error}");
            assert!(!error.to_string().contains("frame #0"), "{error}");
        }
    }
}

/// Tensors in flight live on without their owner, and leaving a group waits for what it has begun.
#[test]
fn work_may_be_dropped() {
    for over in [Over::Threads, Over::Tcp] {
        let abort = &Abort::new();
        thread::scope(|scope| {
            for (rank, transport) in transports(over, 2, abort).into_iter().enumerate() {
                scope.spawn(move || {
                    let group = group(rank, 2, transport, abort, PATIENCE, report::Trace::off());
                    let mine = numbers(rank, &[1 << 18], Kind::Float);
                    let mirror = Tensor::zeros([1 << 18], CPU);
                    if rank == 1 {
                        thread::sleep(Duration::from_millis(100)); // so that rank 0 has to wait
                    }
                    drop(group.isend(&mine, 1 - rank));
                    drop(group.irecv(&mirror, 1 - rank));
                    drop(group.all_reduce_async(&mine.copy()));
                    drop((mine, group));
                    assert!(same(&mirror, &numbers(1 - rank, &[1 << 18], Kind::Float)));
                });
            }
        });
    }
}

#[test]
fn the_trace_shows_operations_and_waits() {
    let abort = Abort::new();
    let traces: Vec<String> = thread::scope(|scope| {
        let start = |(rank, transport)| {
            let abort = &abort;
            scope.spawn(move || {
                let trace = report::Trace::new(rank, format!("dp{rank}"));
                let group = group(rank, 2, transport, abort, PATIENCE, trace.clone());
                let tensor = Tensor::ones([1024], CPU);
                if rank == 1 {
                    thread::sleep(Duration::from_millis(200)); // so that rank 0 waits
                }
                group.all_reduce_async(&tensor).wait().unwrap();
                String::from_utf8(trace.export()).unwrap()
            })
        };
        let ranks = transports(Over::Threads, 2, &abort).into_iter().enumerate();
        let ranks: Vec<_> = ranks.map(start).collect();
        ranks.into_iter().map(|r| r.join().unwrap()).collect()
    });
    for (rank, trace) in traces.iter().enumerate() {
        let trace: serde_json::Value = serde_json::from_str(trace).unwrap();
        let on = |track: serde_json::Value| {
            let mut events = trace["events"].as_array().unwrap().iter();
            events.find(|event| event["track"] == track && event["name"] == "all_reduce")
        };
        let group = serde_json::json!({ "Group": "dp" });
        assert_eq!(on(group).expect("the operation")["bytes"], 4096);
        assert!(rank == 1 || on("Wait".into()).is_some(), "{trace}");
    }
}
