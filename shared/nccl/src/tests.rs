//! The order in which things are queued, told by a driver that writes down what it is asked.

mod fake;
mod refusals;

use crate::Watched;
use crate::group::Nccl;
use crate::watch::Watch;
use comm::backend::{Backend, OnGpu, Queue};
use comm::{
    Abort, CommError, Connect, Cpu, GpuBackends, Layout, Mesh, ReduceOp, Wiring, thread_transports,
};
use fake::{Asked, Fake, Hall, NoInterrupts, gather};
use report::Trace;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `rank_main` on every rank of `n`, each with a group of all on its fake GPU.
fn ranks(n: usize, timeout: Duration, rank_main: impl Fn(usize, &Nccl<Fake>, &Watch<Fake>) + Sync) {
    let hall = Hall::default();
    let layout = Layout { dp: n, ..Layout::default() };
    let abort = Abort::new();
    let transports = thread_transports(n, abort.clone());
    thread::scope(|scope| {
        for (rank, transport) in transports.into_iter().enumerate() {
            let (hall, rank_main) = (hall.clone(), &rank_main);
            scope.spawn(move || {
                let spec = layout.group("dp", rank);
                let cpu = Arc::new(Cpu::new(spec, rank, transport, TIMEOUT, Trace::off()));
                // Each its own, so that one rank's trouble is told by that rank.
                let (name, abort) = (layout.coords(rank).to_string(), Abort::new());
                let watch =
                    Watch::start(Fake { hall, ..Fake::default() }, name, abort, timeout).unwrap();
                let nccl = Nccl::new(cpu, watch.clone(), Trace::off());
                nccl.connect(Connect::AndBoth).unwrap();
                let driver = &watch.driver;
                let all = (0..driver.events.load(SeqCst)).collect();
                *driver.passed.lock().unwrap() = all; // connecting is over
                driver.take();
                rank_main(rank, &nccl, &watch);

                let (driver, failed) = (watch.driver.clone(), watch.abort.is_raised());
                drop((nccl, watch));
                assert_eq!(Arc::strong_count(&driver), 1, "somebody watches on");
                let expected = if failed { 0 } else { driver.inits.load(SeqCst) };
                assert_eq!(driver.dropped.load(SeqCst), expected, "what was aborted stays");
            });
        }
    });
}

/// What `found` finds within five seconds.
fn soon<T>(found: impl Fn() -> Option<T>) -> Option<T> {
    (0..100).find_map(|_| {
        found().or_else(|| {
            thread::sleep(Duration::from_millis(50));
            None
        })
    })
}

#[test]
fn an_operation_waits_for_its_tensors_and_what_uses_them_waits_for_it() {
    ranks(2, TIMEOUT, |_, nccl, watch| {
        nccl.all_reduce(&Tensor::ones([4], (Kind::Float, Device::Cpu)), ReduceOp::Sum).unwrap();
        let asked = watch.driver.take();
        let [Asked::Record(0, ready), Asked::Wait(side, waited), Asked::Call(on, op), ended] =
            &asked[..]
        else {
            panic!("{asked:?}")
        };
        assert!(ready == waited && side == on && *side != 0 && *op == "all_reduce", "{asked:?}");
        let Asked::Record(end, done) = ended else { panic!("{asked:?}") };
        assert_eq!(end, side, "the end is that of the operation");
        let queued = nccl.done(Queue::Collectives).unwrap();
        queued.wait().unwrap();
        assert_eq!(watch.driver.take(), [Asked::Wait(0, *done)], "the host does not wait");
    });
}

#[test]
fn tensors_are_kept_until_the_gpu_is_done_with_them() {
    ranks(2, TIMEOUT, |_, nccl, watch| {
        watch.look().unwrap();
        assert_eq!(watch.kept(), 0);
        gather(nccl);
        watch.look().unwrap();
        assert_eq!(watch.kept(), 2, "input and output");
        let Some(Asked::Record(_, done)) = watch.driver.take().pop() else { panic!() };
        watch.driver.passed.lock().unwrap().insert(done);
        watch.look().unwrap();
        assert_eq!(watch.kept(), 0);
    });
}

/// A host that runs ahead of its GPU would hold everything that it has ever communicated.
#[test]
fn tensors_are_let_go_when_what_is_computed_next_waits() {
    ranks(2, TIMEOUT, |_, nccl, watch| {
        watch.look().unwrap();
        gather(nccl);
        let queued = nccl.done(Queue::Collectives).unwrap();
        assert_eq!(watch.kept(), 2);
        queued.wait().unwrap();
        assert_eq!(watch.kept(), 0, "although the GPU has not come so far");
    });
}

/// NCCL may meet peers inside a call, and the host with it; and then CUDA may leave
/// questions unanswered.
#[test]
fn a_call_that_never_returns_is_told_by_its_name() {
    ranks(2, Duration::from_millis(300), |rank, nccl, watch| {
        watch.look().unwrap(); // connecting is seen to be over
        thread::scope(|scope| {
            watch.driver.held.store(true, SeqCst);
            scope.spawn(|| nccl.broadcast(&Tensor::ones([1], (Kind::Float, Device::Cpu)), 0));
            let cause = watch.abort.wait(Duration::from_secs(10));
            watch.driver.held.store(false, SeqCst);
            let other = format!("dp{} pp0 cp0 tp0", 1 - rank);
            let told =
                format!("waited 0.3 s for rank {other} in broadcast on group dp and gave up");
            assert!(cause.as_ref().is_some_and(|cause| cause.ends_with(&told)), "{cause:?}");
        });
    });
}

/// CUDA would open GPU 0 for it, on every rank.
#[test]
fn the_thread_that_watches_is_on_the_ranks_gpu() {
    ranks(2, TIMEOUT, |_, nccl, watch| {
        let me = thread::current().id();
        nccl.all_reduce(&Tensor::ones([4], (Kind::Float, Device::Cpu)), ReduceOp::Sum).unwrap();
        let other = || watch.driver.asking.lock().unwrap().iter().find(|id| **id != me).copied();
        let watching = soon(other).expect("nobody watches");
        assert!(watch.driver.entered.lock().unwrap().contains(&watching));
    });
}

#[test]
fn each_direction_of_a_pair_has_a_stream_of_its_own() {
    ranks(3, TIMEOUT, |rank, nccl, watch| {
        let tensor = Tensor::ones([4], (Kind::Float, Device::Cpu));
        let (next, last) = ((rank + 1) % 3, (rank + 2) % 3);
        nccl.recv(&tensor, next).unwrap(); // all receive first: on one stream they would meet never
        nccl.recv(&tensor, last).unwrap();
        nccl.send(&tensor, next).unwrap();
        nccl.send(&tensor, last).unwrap();
        nccl.broadcast(&tensor, 0).unwrap();
        let calls = watch.driver.take().into_iter().filter_map(|asked| match asked {
            Asked::Call(stream, _) => Some(stream),
            _ => None,
        });
        assert_eq!(calls.collect::<BTreeSet<_>>().len(), 5);
        let sent = 2 * 16 + if rank == 2 { 0 } else { 16 }; // the end of a chain sends nothing
        assert_eq!(nccl.bytes_sent(), sent);
    });
}

#[test]
fn a_tensor_with_gaps_is_written_back_behind_the_operation() {
    ranks(2, TIMEOUT, |_, nccl, watch| {
        let whole = Tensor::ones([4, 2], (Kind::Float, Device::Cpu));
        nccl.all_reduce(&whole.narrow(1, 0, 1), ReduceOp::Sum).unwrap();
        assert_eq!(
            Vec::<f32>::try_from(whole.flatten(0, 1)).unwrap(),
            [2., 1., 2., 1., 2., 1., 2., 1.]
        );
        let asked = watch.driver.take();
        let [.., Asked::Record(_, done), Asked::Wait(0, waited)] = &asked[..] else {
            panic!("{asked:?}")
        };
        assert_eq!(done, waited);
    });
}

#[test]
fn what_never_ends_or_fails_is_told_and_given_up() {
    ranks(2, Duration::from_millis(300), |rank, nccl, watch| {
        nccl.send(&Tensor::ones([1], (Kind::Float, Device::Cpu)), 1 - rank).unwrap();
        let cause = watch.abort.wait(Duration::from_secs(10)).expect("nobody noticed");
        let (me, other) = (format!("dp{rank} pp0 cp0 tp0"), format!("dp{} pp0 cp0 tp0", 1 - rank));
        let told =
            format!("rank {me} waited 0.3 s for rank {other} in send on group dp and gave up");
        assert_eq!(cause, told);
        let aborted = || (watch.driver.aborted.load(SeqCst) == 3).then_some(()); // all, one each way
        soon(aborted).expect("not all were aborted");
        let refused = nccl.broadcast(&Tensor::ones([1], (Kind::Float, Device::Cpu)), 0);
        assert!(matches!(refused, Err(CommError::Aborted { .. })), "{refused:?}");
    });
    ranks(2, TIMEOUT, |rank, _, watch| {
        *watch.driver.failure.lock().unwrap() = Some("unhandled cuda error".into());
        let cause = watch.abort.wait(Duration::from_secs(10)).expect("nobody noticed");
        let told = "failed in connect on group dp: unhandled cuda error";
        assert_eq!(cause, format!("rank dp{rank} pp0 cp0 tp0 {told}"));
    });
}

/// Both go over the ranks' CPUs, where each would take the other's bytes for its own.
#[test]
fn a_pair_connects_beside_a_message_between_cpus() {
    ranks(4, TIMEOUT, |rank, nccl, _| {
        let tensor = Tensor::ones([4], (Kind::Float, Device::Cpu));
        thread::scope(|scope| match rank {
            0 => {
                let message = tensor.copy();
                scope.spawn(move || nccl.cpu.send(&message, 2).unwrap());
                thread::sleep(Duration::from_millis(100)); // under way before the pair connects
                nccl.send(&tensor, 2).unwrap(); // no neighbour, so this is the first
            }
            2 => {
                nccl.recv(&tensor, 0).unwrap();
                nccl.cpu.recv(&tensor, 0).unwrap();
            }
            _ => {}
        });
    });
}

/// Connecting is a row of meetings; in any other order than everybody's, ranks wait for ever.
#[test]
fn every_layout_connects() {
    let layout = |dp, pp, cp, tp| Layout { dp, pp, cp, tp };
    for (layout, comms) in [
        (layout(1, 1, 1, 1), 0),
        (layout(2, 2, 2, 2), 1 + 3 + 3 + 1), // dp_cp, pp and both ways, cp and both, tp
        (layout(1, 4, 1, 1), 5),             // to and from two neighbours
        (layout(3, 1, 3, 1), 1 + 3),
        (layout(1, 2, 1, 3), 3 + 1),
    ] {
        let (hall, abort) = (Hall::default(), Abort::new());
        thread::scope(|scope| {
            for (rank, transport) in
                thread_transports(layout.world(), abort.clone()).into_iter().enumerate()
            {
                let (hall, abort) = (hall.clone(), abort.clone());
                scope.spawn(move || {
                    let driver = Fake { hall, ..Fake::default() };
                    let name = layout.coords(rank).to_string();
                    let watch = Watch::start(driver, name, abort.clone(), TIMEOUT).unwrap();
                    let gpu: Arc<dyn GpuBackends> = Arc::new(Watched(watch.clone()));
                    let (timeout, trace, gpu) = (TIMEOUT, Trace::off(), Some(gpu));
                    let interrupts = Arc::new(NoInterrupts);
                    let wiring = Wiring { transport, abort, timeout, trace, gpu, interrupts };
                    Mesh::new(layout, rank, wiring).map(drop).unwrap();
                    assert_eq!(watch.driver.inits.load(SeqCst), comms, "{layout}");
                });
            }
        });
    }
}
