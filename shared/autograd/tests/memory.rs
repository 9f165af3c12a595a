//! What a thread's tensors take, to the byte.

use autograd::{Change, observe_memory, peak, record_memory};
use std::sync::mpsc;
use std::thread;
use tch::{Device, Kind, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

fn bytes(changes: &[Change]) -> Vec<i64> {
    assert!(changes.windows(2).all(|pair| pair[0].at <= pair[1].at), "in their order");
    changes.iter().map(|change| change.bytes).collect()
}

fn sum(changes: &[Change]) -> i64 {
    changes.iter().map(|change| change.bytes).sum()
}

#[test]
fn a_tensor_counts_from_its_making_to_its_last_reference() {
    let recording = record_memory().unwrap();
    let a = Tensor::empty([3, 5], F32);
    let view = a.view([15]);
    let b = Tensor::empty([7], (Kind::Double, Device::Cpu));
    drop(a);
    drop(b);
    drop(view);
    drop(Tensor::empty([0], F32)); // takes nothing
    let changes = recording.finish();
    assert_eq!(bytes(&changes), [60, 56, -56, -60]);
    assert_eq!((peak(&changes), sum(&changes)), (116, 0));
    assert_eq!((peak(&[]), peak(&changes[2..])), (0, 0));
}

#[test]
fn a_tensor_that_another_thread_drops_is_freed_for_the_one_that_made_it() {
    let (send, receive) = mpsc::channel::<Tensor>();
    let (tell, told) = mpsc::channel();
    let lane = thread::spawn(move || {
        let theirs = record_memory().unwrap();
        for tensor in receive {
            drop(tensor);
            tell.send(()).unwrap();
        }
        theirs.finish()
    });
    let recording = record_memory().unwrap();
    let late = Tensor::empty([1000], F32);
    send.send(Tensor::empty([100], F32)).unwrap();
    told.recv().unwrap();
    drop(Tensor::empty([1], F32));
    let changes = recording.finish();
    assert_eq!(bytes(&changes), [4000, 400, -400, 4, -4]);
    // After the recording, into a log that is closed.
    send.send(late).unwrap();
    told.recv().unwrap();
    drop(send);
    assert_eq!(lane.join().unwrap(), [], "they are not the lane's");
    assert_eq!(record_memory().unwrap().held(), 0);
}

#[test]
fn what_is_left_of_a_thread_that_has_ended_can_be_freed() {
    let made = thread::spawn(|| {
        let recording = record_memory().unwrap();
        let made = Tensor::ones([10], F32);
        drop(recording);
        made
    });
    let tensor = made.join().unwrap();
    assert_eq!(tensor.sum(Kind::Float).double_value(&[]), 10.0);
    drop(tensor);
}

#[test]
fn tensors_from_before_the_recording_are_held_and_their_frees_count() {
    observe_memory().unwrap();
    let weight = Tensor::empty([64], F32);
    let old = Tensor::empty([32], F32);
    let recording = record_memory().unwrap();
    assert_eq!(recording.held(), 384);
    drop(old);
    let new = Tensor::empty([16], F32);
    let changes = recording.finish();
    assert_eq!((bytes(&changes), peak(&changes)), (vec![-128, 64], 0));
    drop(weight);
    let next = record_memory().unwrap();
    assert_eq!(next.held(), 64, "frees between two recordings count as well");
    drop(new);
    assert_eq!(bytes(&next.finish()), [-64]);
}

#[test]
fn a_backward_pass_is_seen() {
    let n = 1000;
    let x = Tensor::randn([n], F32).set_requires_grad(true);
    let recording = record_memory().unwrap();
    // A node of our own keeps the output; its backward pass makes the gradient from it.
    let y = {
        let output = tch::no_grad(|| x.exp()); // 4n, until the backward pass
        let saved = output.shallow_clone();
        autograd::custom([&x], &output, move |grad| Ok([grad * &saved])).unwrap()
    };
    let loss = y.sum(Kind::Float); // 4
    drop(y);
    autograd::backward(&loss).unwrap(); // makes 4 for its start, and 4n for the gradient
    let changes = recording.finish();
    assert_eq!(bytes(&changes), [4 * n, 4, 4, 4 * n, -4 * n, -4]);
    assert_eq!((peak(&changes), sum(&changes)), (8 * n + 8, 4 * n + 4));
    // The next step frees the gradient of this one.
    let recording = record_memory().unwrap();
    assert_eq!(recording.held(), 4 * n + 4);
    autograd::clear_grad(&x).unwrap();
    assert_eq!(bytes(&recording.finish()), [-4 * n]);
}

#[test]
fn threads_recorded_at_once_do_not_mix_and_others_are_not_recorded() {
    let rank = |size: i64| {
        move || {
            let recording = record_memory().unwrap();
            for _ in 0..500 {
                drop(Tensor::empty([size], F32));
            }
            bytes(&recording.finish())
        }
    };
    let recording = record_memory().unwrap();
    let idle =
        thread::spawn(|| drop((0..500).map(|_| Tensor::empty([5], F32)).collect::<Vec<_>>()));
    let ranks = [7, 11].map(|size| (size, thread::spawn(rank(size))));
    for (size, thread) in ranks {
        assert_eq!(thread.join().unwrap(), [4 * size, -4 * size].repeat(500));
    }
    idle.join().unwrap();
    assert_eq!(recording.finish(), []);
}

#[test]
fn a_thread_is_recorded_once_at_a_time() {
    let first = record_memory().unwrap();
    let error = record_memory().err().expect("the first goes on").to_string();
    assert_eq!(error, "the memory of this thread is being recorded already: finish that first");
    let tensor = Tensor::empty([1], F32);
    drop(first);
    let second = record_memory().unwrap();
    assert!(second.start().elapsed().as_secs() < 60);
    drop(tensor);
    assert_eq!(bytes(&second.finish()), [-4], "nothing is left of the first");
}

#[test]
fn products_work_for_observed_and_other_threads() {
    // oneDNN, which computes those in bf16, allocates past `Tensor`, by libtorch's raw calls.
    let product = || {
        let a = Tensor::ones([64, 64], (Kind::BFloat16, Device::Cpu));
        a.matmul(&a).sum(Kind::Float).double_value(&[])
    };
    let other = thread::spawn(product);
    let recording = record_memory().unwrap();
    assert_eq!(product(), 64.0 * 64.0 * 64.0);
    assert_eq!(sum(&recording.finish()), 0);
    assert_eq!(other.join().unwrap(), 64.0 * 64.0 * 64.0);
}
