//! Step 2, data parallelism: the sums alone, a bucket at a time, then the whole.

use comm::{Layout, Mesh};
use launch::Launch;
use lessons::{
    Expected, Held, Model, PATIENCE, Updates, check, check_all, check_bytes, check_grads,
    check_losses, check_norms, micro_batches, numbers, one_device, place, start, world, world_of,
};
use std::ops::Range;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use step02::config::Config;
use step02::data_parallel::{DataParallel, cut};
use step02::layers::Parameter;
use step02::train::Trainer;
use tch::{Kind, Tensor};

/// What never comes is waited for as long; all else takes milliseconds.
const NEVER: Duration = Duration::from_secs(2);

fn replicas(dp: usize) -> Layout {
    Layout { dp, ..Layout::default() }
}

fn name(mesh: &Mesh) -> String {
    place(mesh.layout, mesh.coords)
}

/// A parameter holds so many numbers of eight bytes, and a bucket two of them.
const NUMBERS: i64 = 64;

fn parameters(count: usize) -> Vec<Parameter> {
    let one = |i: usize| Parameter {
        name: format!("parameter {i}"),
        tensor: numbers(i as i64, &[NUMBERS]).set_requires_grad(true),
        decays: false,
    };
    (0..count).map(one).collect()
}

fn data_parallel(
    parameters: &[Parameter],
    mesh: &Mesh,
    sync: &str,
) -> anyhow::Result<DataParallel> {
    let bucket = 2.0 * 8.0 * NUMBERS as f64 / 1048576.0;
    let run = format!("--dp {} --dp-sync {sync} --bucket-mb {bucket}", mesh.layout.dp);
    let config = start::<Config>(2, &Model::default().flags(&run)).config;
    let sums = DataParallel::new(parameters, &mesh.dp, &config.parallel)?;
    sums.zero_grad()?;
    Ok(sums)
}

/// What rank `rank` makes of parameter `i` in its backward pass `pass`.
fn grad(rank: usize, i: usize, pass: usize) -> Tensor {
    numbers((100 * rank + 10 * i + pass) as i64, &[NUMBERS])
}

/// A backward pass that reaches these parameters, and adds to their gradients.
fn backward(
    parameters: &[Parameter],
    of: Range<usize>,
    rank: usize,
    pass: usize,
) -> anyhow::Result<()> {
    let each = of.map(|i| (&parameters[i].tensor * grad(rank, i, pass)).sum(Kind::Double));
    autograd::backward(&each.reduce(|a, b| a + b).expect("at least one"))
}

fn sum(ranks: usize, of: impl Fn(usize) -> Tensor) -> Tensor {
    (1..ranks).fold(of(0).copy(), |sum, rank| sum + of(rank))
}

// One sum for each gradient

#[test]
fn naive_sums_every_gradient_over_the_replicas() {
    for dp in [1, 2, 4] {
        let outcomes = world(replicas(dp), move |mesh| {
            let parameters = parameters(3);
            let sums = data_parallel(&parameters, mesh, "naive")?;
            let before = mesh.dp.bytes_sent();
            for pass in 0..2 {
                sums.before_backward(pass == 1);
                backward(&parameters, 0..3, mesh.rank, pass)?;
            }
            sums.finish()?;
            let grads: Vec<Tensor> = parameters.iter().map(|p| p.tensor.grad()).collect();
            Ok((name(mesh), grads, mesh.dp.bytes_sent() - before))
        });
        for (rank, (place, grads, sent)) in outcomes.iter().enumerate() {
            for (i, got) in grads.iter().enumerate() {
                let expected = sum(dp, |rank| grad(rank, i, 0) + grad(rank, i, 1));
                let what = format!("naive: the gradient of parameter {i}");
                let from = "the plain sum over replicas and micro-batches";
                check(&Expected { what: &what, place, from }, &expected, got);
            }
            let expected = 3 * comm::all_reduce_bytes(NUMBERS as usize, 8, rank, dp);
            check_bytes("naive: three gradients of two micro-batches", place, expected, *sent);
        }
    }
}

// Buckets

#[test]
fn buckets_follow_each_other_and_hold_at_most_so_much() {
    /// Sizes, the most of a bucket, and the buckets.
    type Case = (&'static [usize], usize, &'static [Range<usize>]);
    let cases: [Case; 5] = [
        (&[], 10, &[]),
        (&[4, 4, 4, 4], 8, &[0..2, 2..4]),
        (&[4, 4, 4], 9, &[0..2, 2..3]),
        (&[1, 2, 3, 4, 5], 6, &[0..3, 3..4, 4..5]),
        (&[8, 2, 2, 2], 8, &[0..1, 1..4]),
    ];
    for (sizes, most, expected) in cases {
        let got = cut(sizes, most);
        assert_eq!(got, expected, "sizes {sizes:?} in buckets of at most {most}");
    }
}

#[test]
fn a_gradient_larger_than_a_bucket_has_its_own() {
    for (sizes, expected) in [
        ([20, 1, 1], vec![0..1, 1..3]),
        ([1, 20, 1], vec![0..1, 1..2, 2..3]),
        ([1, 1, 20], vec![0..2, 2..3]),
    ] {
        assert_eq!(cut(&sizes, 10), expected, "sizes {sizes:?} in buckets of at most 10");
    }
}

#[test]
fn a_bucket_is_sent_when_its_last_gradient_is_ready_and_not_before() {
    let outcomes = world(replicas(2), |mesh| {
        let parameters = parameters(2);
        let sums = data_parallel(&parameters, mesh, "bucketed")?;
        let before = mesh.dp.bytes_sent();
        sums.before_backward(true);
        backward(&parameters, 1..2, mesh.rank, 0)?;
        std::thread::sleep(Duration::from_millis(30));
        let early = mesh.dp.bytes_sent() - before;
        mesh.world.barrier()?;
        backward(&parameters, 0..1, mesh.rank, 0)?;
        let since = Instant::now();
        while mesh.dp.bytes_sent() == before && since.elapsed() < NEVER {
            std::thread::sleep(Duration::from_millis(1));
        }
        let sent = mesh.dp.bytes_sent() - before;
        // The pass was the last, and all of the bucket is there.
        sums.finish()?;
        Ok((name(mesh), early, sent))
    });
    for (place, early, sent) in outcomes {
        check_bytes("with one of a bucket's two gradients ready", &place, 0, early);
        assert!(sent > 0, "{place}: both gradients of a bucket are ready, and nothing is sent");
    }
}

#[test]
fn a_bucket_travels_while_the_backward_pass_goes_on() {
    let (told, heard) = channel();
    let (told, heard) = (Mutex::new(told), Mutex::new(heard));
    let outcomes = world(replicas(2), move |mesh| {
        let parameters = parameters(2);
        let sums = data_parallel(&parameters, mesh, "bucketed")?;
        sums.before_backward(true);
        // The second rank takes part only when the first one's backward pass is over.
        let in_time = mesh.rank == 0 || heard.lock().unwrap().recv_timeout(NEVER).is_ok();
        backward(&parameters, 0..2, mesh.rank, 0)?;
        if mesh.rank == 0 {
            let _ = told.lock().unwrap().send(());
        }
        sums.finish()?;
        Ok(in_time)
    });
    assert!(
        outcomes[1],
        "dp rank 0 waits inside its backward pass until the bucket's sum is there: \
         start the sum, and wait in finish"
    );
}

#[test]
fn finish_waits_until_every_gradient_is_the_sum() {
    let outcomes = world(replicas(2), |mesh| {
        let parameters = parameters(4); // two buckets
        let sums = data_parallel(&parameters, mesh, "bucketed")?;
        for pass in 0..2 {
            sums.before_backward(pass == 1);
            if mesh.rank == 1 {
                std::thread::sleep(Duration::from_millis(80)); // the first rank must wait for it
            }
            backward(&parameters, 0..4, mesh.rank, pass)?;
        }
        sums.finish()?;
        let grads = parameters.iter().map(|p| p.tensor.grad().copy());
        Ok((name(mesh), grads.collect::<Vec<_>>()))
    });
    for (place, grads) in &outcomes {
        for (i, got) in grads.iter().enumerate() {
            let expected = sum(2, |rank| grad(rank, i, 0) + grad(rank, i, 1));
            let what = format!("after finish, the gradient of parameter {i}");
            let from = "the plain sum over replicas and micro-batches";
            check(&Expected { what: &what, place, from }, &expected, got);
        }
    }
}

#[test]
fn a_gradient_that_is_ready_twice_is_refused() {
    let outcomes = world(replicas(2), |mesh| {
        let parameters = parameters(2);
        let sums = data_parallel(&parameters, mesh, "bucketed")?;
        sums.before_backward(true);
        backward(&parameters, 0..2, mesh.rank, 0)?;
        let again = backward(&parameters, 1..2, mesh.rank, 1).err();
        let _ = sums.finish();
        Ok((name(mesh), again.map(|error| error.to_string())))
    });
    for (place, error) in outcomes {
        assert!(
            error.is_some(),
            "{place}: a bucket of two has counted three gradients, and nobody says so: \
             its sum holds a gradient that went on changing"
        );
    }
}

#[test]
fn a_bucket_that_is_not_full_is_refused_at_the_end() {
    for ready in [0, 1] {
        let outcomes = world(replicas(2), move |mesh| {
            let parameters = parameters(2);
            let sums = data_parallel(&parameters, mesh, "bucketed")?;
            sums.before_backward(true);
            if ready == 1 {
                backward(&parameters, 1..2, mesh.rank, 0)?;
            }
            Ok((name(mesh), sums.finish().err().map(|error| error.to_string())))
        });
        for (place, error) in outcomes {
            assert!(
                error.is_some(),
                "{place}: {ready} of a bucket's 2 gradients were ready, so that it was never \
                 sent, and finish says that all is well"
            );
        }
    }
}

#[test]
fn each_step_counts_its_gradients_anew() {
    let outcomes = world(replicas(2), |mesh| {
        let parameters = parameters(3); // buckets of two and of one
        let sums = data_parallel(&parameters, mesh, "bucketed")?;
        let mut grads = vec![];
        for step in 0..3 {
            sums.zero_grad()?;
            sums.before_backward(true);
            backward(&parameters, 0..3, mesh.rank, step)?;
            sums.finish()?;
            grads.push(parameters.iter().map(|p| p.tensor.grad().copy()).collect::<Vec<_>>());
        }
        Ok((name(mesh), grads))
    });
    for (place, steps) in &outcomes {
        for (step, grads) in steps.iter().enumerate() {
            for (i, got) in grads.iter().enumerate() {
                let what = format!("in step {step}, the gradient of parameter {i}");
                let of = Expected { what: &what, place, from: "the plain sum over replicas" };
                check(&of, &sum(2, |rank| grad(rank, i, step)), got);
            }
        }
    }
}

/// One rank leaves: the other's sum fails, and whoever waits for it must hear so.
#[test]
fn an_error_of_the_sum_is_passed_on() {
    for sync in ["naive", "bucketed"] {
        let passed = Arc::new(Mutex::new(None));
        let seen = passed.clone();
        let launch = Launch { layout: replicas(2), timeout: PATIENCE, ..Launch::default() };
        let _ = launch::launch(&launch, move |mesh| {
            let parameters = parameters(2);
            let sums = data_parallel(&parameters, mesh, sync)?;
            mesh.world.barrier()?;
            anyhow::ensure!(mesh.rank == 0, "this rank leaves");
            sums.before_backward(true);
            let outcome = backward(&parameters, 0..2, 0, 0).and_then(|()| sums.finish());
            *seen.lock().unwrap() = Some(outcome.is_err());
            Ok(())
        });
        let passed = passed.lock().unwrap().unwrap_or(false);
        assert!(passed, "{sync}: the other replica is gone, and finish says that all is well");
    }
}

// The whole

const BATCH: &str = "--global-batch 12 --micro-batch 1";

fn train(model: Model, dp: usize, sync: &str, updates: usize) -> Vec<Updates> {
    let run = format!("{BATCH} --dp {dp} --dp-sync {sync} --bucket-mb 0.02");
    let mut start = start::<Config>(2, &model.flags(&run));
    let text = step02::text::open(&mut start).unwrap();
    let config = start.config;
    world_of(&start.launch, move |mesh| {
        let mut trainer = Trainer::new(&config, &text, mesh)?;
        let all = micro_batches(12, 1, model.vocab);
        let own = &all[12 / dp * mesh.rank..][..12 / dp];
        Updates::take(name(mesh), updates, || {
            let stats = trainer.update(own)?;
            let held = trainer.model.parameters().iter().map(|p| Held {
                name: p.name.clone(),
                weight: p.tensor.shallow_clone(),
                grad: p.tensor.grad(),
                region: checkpoint::Region::whole(&p.tensor.size()),
            });
            Ok((stats, held.collect()))
        })
    })
}

/// Runs in every form against one device.
fn in_every_form(updates: usize, test: impl Fn(&Updates, &[Updates])) {
    for tied in [false, true] {
        let model = Model { tied, ..Model::default() };
        let one = one_device(model, BATCH, &micro_batches(12, 1, model.vocab), updates);
        for (dp, sync) in [(1, "bucketed"), (2, "naive"), (2, "bucketed"), (3, "bucketed")] {
            test(&one, &train(model, dp, sync, updates));
        }
    }
}

#[test]
fn the_first_loss_is_that_of_one_device() {
    in_every_form(1, check_losses);
}

#[test]
fn the_gradient_norm_is_that_of_one_device() {
    in_every_form(1, check_norms);
}

#[test]
fn every_gradient_is_that_of_one_device() {
    in_every_form(1, check_grads);
}

#[test]
fn every_weight_is_that_of_one_device_after_three_updates() {
    in_every_form(3, check_all);
}

#[test]
fn each_gradient_crosses_the_ring_once_a_step() {
    for dp in [2, 3] {
        for sync in ["naive", "bucketed"] {
            let runs = train(Model::default(), dp, sync, 1);
            let numbers: usize = runs[0].updates[0].held.iter().map(|h| h.weight.numel()).sum();
            // All ranks of a ring of n together send 2(n − 1) times what they sum: the gradients,
            // once for all micro-batches, and the loss.
            let expected = 2 * (dp as u64 - 1) * 8 * (numbers as u64 + 1);
            let sent = runs.iter().map(|run| run.updates[0].stats.comm_bytes["dp"]).sum();
            check_bytes(&format!("one update, {sync}"), "all replicas together", expected, sent);
        }
    }
}
