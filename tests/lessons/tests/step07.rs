//! Step 7, activations: tokens shared out and brought together, the gradients of norms, then the
//! whole. Recomputation is a lesson of its own, in `shared/autograd`.

use checkpoint::Placement;
use comm::{Layout, Mesh, all_reduce_bytes};
use launch::Launch;
use lessons::{
    Expected, Held, Model, Updates, check, check_all, check_bits, check_bytes,
    check_error_is_passed_on, check_grads, check_losses, check_norms, micro_batches, numbers,
    one_device, place, start, world, world_of,
};
use std::sync::{Arc, Mutex, PoisonError};
use step07::config::Config;
use step07::layers::Parameter;
use step07::tensor_parallel::TensorParallel;
use step07::train::Trainer;
use tch::{Kind, Tensor};

const ALL: [i64; 3] = [2, 8, 3]; // [batch, seq, hidden]

fn ranks(tp: usize) -> Layout {
    Layout { tp, ..Layout::default() }
}

fn two() -> Launch {
    Launch { layout: ranks(2), timeout: lessons::PATIENCE, ..Launch::default() }
}

fn name(mesh: &Mesh) -> String {
    place(mesh.layout, mesh.coords)
}

const SHARED_OUT: &str = "--sequence-parallel";
const NOT_SHARED_OUT: &str = "--sequence-parallel=false";

fn tensor_parallel(mesh: &Mesh, flags: &str) -> TensorParallel {
    let flags = format!("--tp {} --tp-sync blocking {flags}", mesh.layout.tp);
    TensorParallel::new(&start::<Config>(7, &Model::default().flags(&flags)).config, mesh)
}

/// The tokens of a rank.
fn own(all: &Tensor, rank: usize, tp: usize) -> Tensor {
    let tokens = all.size()[1] / tp as i64;
    all.narrow(1, tokens * rank as i64, tokens).contiguous()
}

fn sum(tp: usize, of: impl Fn(usize) -> Tensor) -> Tensor {
    (1..tp).fold(of(0).copy(), |sum, rank| sum + of(rank))
}

/// What a rank sends of `ALL` in a gather or in a reduce-scatter: half an all-reduce.
fn half(tp: usize) -> u64 {
    (tp as u64 - 1) * 48 / tp as u64 * 8
}

// The tokens of all ranks

#[test]
fn the_tokens_of_all_ranks_come_in_their_order() {
    for tp in [1, 2, 4] {
        let outcomes = world(ranks(tp), move |mesh| {
            let mine = own(&numbers(1, &ALL), mesh.rank, tp);
            Ok((name(mesh), tensor_parallel(mesh, SHARED_OUT).whole(&mine)?))
        });
        for (place, got) in &outcomes {
            let of = Expected { what: "what `whole` makes", place, from: "the whole tensor" };
            check_bits(&of, &numbers(1, &ALL), got);
        }
    }
}

#[test]
fn a_rank_sends_its_tokens_once_to_each_of_the_others() {
    for tp in [1, 2, 4] {
        let outcomes = world(ranks(tp), move |mesh| {
            let mine = own(&numbers(1, &ALL), mesh.rank, tp);
            let _ = tensor_parallel(mesh, SHARED_OUT).whole(&mine)?;
            Ok((name(mesh), mesh.tp.bytes_sent()))
        });
        for (place, sent) in &outcomes {
            check_bytes("whole", place, half(tp), *sent);
        }
    }
}

// The sum of a rank's own tokens

#[test]
fn each_rank_is_left_the_sum_of_its_own_tokens() {
    for tp in [1, 2, 4] {
        let partial = |rank: usize| numbers(5 + rank as i64, &ALL);
        let outcomes = world(ranks(tp), move |mesh| {
            Ok((name(mesh), tensor_parallel(mesh, SHARED_OUT).sum(&partial(mesh.rank))?))
        });
        for (rank, (place, got)) in outcomes.iter().enumerate() {
            let from = "the plain sum, of its tokens";
            let of = Expected { what: "what `sum` makes", place, from };
            check(&of, &own(&sum(tp, partial), rank, tp), got);
        }
    }
}

#[test]
fn a_sum_sends_half_of_what_an_all_reduce_does() {
    for tp in [1, 2, 4] {
        let outcomes = world(ranks(tp), move |mesh| {
            let _ = tensor_parallel(mesh, SHARED_OUT).sum(&numbers(5, &ALL))?;
            Ok((name(mesh), mesh.tp.bytes_sent()))
        });
        for (place, sent) in &outcomes {
            check_bytes("sum", place, half(tp), *sent);
        }
    }
}

#[test]
fn tokens_that_the_ranks_cannot_share_are_refused() {
    let told: Arc<Mutex<Vec<bool>>> = Arc::default();
    let seen = told.clone();
    let _ = launch::launch(&two(), move |mesh| {
        let refused = tensor_parallel(mesh, SHARED_OUT).sum(&numbers(1, &[2, 7, 3])).is_err();
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(refused);
        Ok(())
    });
    let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(told, [true, true], "whether `sum` refuses 7 tokens for 2 ranks, on each");
}

#[test]
fn without_sequence_parallelism_every_rank_has_all_tokens() {
    for tp in [1, 2, 4] {
        let partial = |rank: usize| numbers(5 + rank as i64, &ALL);
        let outcomes = world(ranks(tp), move |mesh| {
            let tp = tensor_parallel(mesh, NOT_SHARED_OUT);
            let whole = tp.whole(&numbers(1, &ALL))?;
            let sent = mesh.tp.bytes_sent();
            Ok((name(mesh), whole, sent, tp.sum(&partial(mesh.rank))?, mesh.tp.bytes_sent()))
        });
        for (rank, (place, whole, sent_by_whole, got, sent)) in outcomes.iter().enumerate() {
            let what = "without sequence parallelism, what `whole` makes";
            check_bits(&Expected { what, place, from: "its input" }, &numbers(1, &ALL), whole);
            check_bytes("whole, without sequence parallelism", place, 0, *sent_by_whole);
            let what = "without sequence parallelism, what `sum` makes";
            let of = Expected { what, place, from: "the plain sum, of all tokens" };
            check(&of, &sum(tp, partial), got);
            let expected = all_reduce_bytes(48, 8, rank, tp);
            check_bytes("sum, without sequence parallelism", place, expected, *sent);
        }
    }
}

// f and g

#[test]
fn f_and_g_are_each_others_way_back() {
    for tp in [1, 2, 4] {
        let grad = |rank: usize| numbers(9 + rank as i64, &ALL);
        let outcomes = world(ranks(tp), move |mesh| {
            let tp_of = tensor_parallel(mesh, SHARED_OUT);
            let x = own(&numbers(1, &ALL), mesh.rank, tp).set_requires_grad(true);
            autograd::backward_with(&tp_of.f(&x)?, &grad(mesh.rank))?;
            let partial = numbers(5, &ALL).set_requires_grad(true);
            let behind = tp_of.g(&partial * 1.0)?;
            autograd::backward_with(&behind, &own(&numbers(20, &ALL), mesh.rank, tp))?;
            Ok((name(mesh), x.grad(), partial.grad()))
        });
        for (rank, (place, grad_of_f, grad_of_g)) in outcomes.iter().enumerate() {
            let from = "the sum of the ranks' gradients, of its tokens";
            let of = Expected { what: "the gradient of f's input", place, from };
            check(&of, &own(&sum(tp, grad), rank, tp), grad_of_f);
            let from = "the gradients of all ranks' tokens";
            let of = Expected { what: "the gradient of g's input", place, from };
            check_bits(&of, &numbers(20, &ALL), grad_of_g);
        }
    }
}

/// f, a column-parallel and a row-parallel matrix, g: what one device computes of them.
#[test]
fn a_block_between_f_and_g_is_that_of_one_device() {
    let tp = 2;
    let weights = || (numbers(20, &[4, 3]), numbers(21, &[3, 4])); // up and down
    let outcomes = world(ranks(tp), move |mesh| {
        let (up, down) = weights();
        let (up, down) = (
            up.narrow(0, 2 * mesh.rank as i64, 2).copy().set_requires_grad(true),
            down.narrow(1, 2 * mesh.rank as i64, 2),
        );
        let tp_of = tensor_parallel(mesh, SHARED_OUT);
        let x = own(&numbers(1, &ALL), mesh.rank, tp).set_requires_grad(true);
        let y = tp_of.g(tp_of.f(&x)?.matmul(&up.tr()).silu().matmul(&down.tr()))?;
        autograd::backward_with(&y, &own(&numbers(9, &ALL), mesh.rank, tp))?;
        Ok((name(mesh), y.detach(), x.grad(), up.grad()))
    });
    let (up, down) = weights();
    let (x, up) = (numbers(1, &ALL).set_requires_grad(true), up.set_requires_grad(true));
    let y = x.matmul(&up.tr()).silu().matmul(&down.tr());
    (&y * numbers(9, &ALL)).sum(Kind::Double).backward();
    for (rank, (place, got, grad_of_x, grad_of_up)) in outcomes.iter().enumerate() {
        let of = |what| Expected { what, place, from: "one device" };
        check(&of("the block's output"), &own(&y.detach(), rank, tp), got);
        check(&of("the gradient of the block's input"), &own(&x.grad(), rank, tp), grad_of_x);
        let expected = up.grad().narrow(0, 2 * rank as i64, 2);
        check(&of("the gradient of the block's first matrix"), &expected, grad_of_up);
    }
}

#[test]
fn an_error_of_the_group_is_passed_on() {
    check_error_is_passed_on("whole", &two(), |mesh| {
        tensor_parallel(mesh, SHARED_OUT).whole(&numbers(1, &[2, 4, 3])).map(|_| ())
    });
    for flags in [SHARED_OUT, NOT_SHARED_OUT] {
        check_error_is_passed_on("sum", &two(), move |mesh| {
            tensor_parallel(mesh, flags).sum(&numbers(1, &ALL)).map(|_| ())
        });
    }
}

// The gradients of norms

/// As many numbers as no number of ranks divides: each message is then cut in another way.
const GAIN: i64 = 5;

fn grad_of(rank: usize, parameter: i64) -> Tensor {
    numbers(30 + 10 * rank as i64 + parameter, &[GAIN])
}

/// Three norms, and between them what no sum is needed for: a shard, and what every rank has whole
/// and computes whole. Gradients are views of one tensor, as those in step 2's buckets are.
fn parameters(rank: usize, norms: Placement) -> (Vec<Parameter>, Tensor) {
    let of = [norms, Placement::Shard(0), norms, Placement::Replicate, norms];
    let grads: Vec<Tensor> = (0..of.len() as i64).map(|i| grad_of(rank, i)).collect();
    let flat = Tensor::cat(&grads, 0);
    let parameter = |(i, tp): (usize, &Placement)| {
        let tensor = numbers(3, &[GAIN]).set_requires_grad(true);
        let grad = flat.narrow(0, GAIN * i as i64, GAIN);
        autograd::set_grad(&tensor, &grad).expect("a gradient of the same shape");
        let (name, global_shape) = (format!("parameter {i}"), vec![GAIN]);
        Parameter { name, tensor, global_shape, decays: false, tp: *tp, pp: Placement::Alone }
    };
    (of.iter().enumerate().map(parameter).collect(), flat)
}

/// The gradients of each rank afterwards, the tensor that they were views of, and what was sent.
fn summed(tp: usize, norms: Placement) -> Vec<(String, Vec<Tensor>, Tensor, u64)> {
    world(ranks(tp), move |mesh| {
        let (parameters, flat) = parameters(mesh.rank, norms);
        tensor_parallel(mesh, SHARED_OUT).sum_partial_grads(&parameters)?;
        let grads = parameters.iter().map(|p| p.tensor.grad().copy()).collect();
        Ok((name(mesh), grads, flat, mesh.tp.bytes_sent()))
    })
}

#[test]
fn the_gradient_of_a_norm_is_the_sum_over_the_ranks() {
    for tp in [1, 2, 4] {
        for (place, grads, ..) in &summed(tp, Placement::Partial) {
            for (nth, i) in ["first", "second", "third"].into_iter().zip([0, 2, 4]) {
                let what = format!("the gradient of the {nth} norm");
                let of = Expected { what: &what, place, from: "the sum of the ranks' gradients" };
                check(&of, &sum(tp, |rank| grad_of(rank, i)), &grads[i as usize]);
            }
        }
    }
}

#[test]
fn gradients_of_shards_and_of_what_all_compute_stay_as_they_are() {
    for (rank, (place, grads, ..)) in summed(4, Placement::Partial).iter().enumerate() {
        for (what, i) in [("a shard", 1), ("what every rank computes whole", 3)] {
            let what = format!("the gradient of {what}");
            let of = Expected { what: &what, place, from: "before" };
            check_bits(&of, &grad_of(rank, i), &grads[i as usize]);
        }
    }
}

#[test]
fn the_sum_is_where_the_gradient_was() {
    for (place, grads, flat, _) in &summed(2, Placement::Partial) {
        for (nth, i) in ["first", "second", "third"].into_iter().zip([0, 2, 4]) {
            let what = format!("the memory in which the {nth} norm's gradient was");
            let of = Expected { what: &what, place, from: "the norm's gradient" };
            check_bits(&of, &grads[i as usize], &flat.narrow(0, GAIN * i, GAIN));
        }
    }
}

#[test]
fn every_rank_has_the_same_bits() {
    let all = summed(4, Placement::Partial);
    for (place, grads, ..) in &all {
        for i in [0, 2, 4] {
            let of = Expected { what: "the gradient of a norm", place, from: "tp rank 0" };
            check_bits(&of, &all[0].1[i], &grads[i]);
        }
    }
}

#[test]
fn all_norms_travel_in_one_buffer() {
    let tp = 4;
    for (rank, (place, _, _, sent)) in summed(tp, Placement::Partial).iter().enumerate() {
        let expected = all_reduce_bytes(3 * GAIN as usize, 8, rank, tp);
        check_bytes("an all-reduce of three norms of 5 numbers", place, expected, *sent);
    }
}

#[test]
fn where_nothing_is_partial_nothing_is_sent() {
    for (rank, (place, grads, _, sent)) in summed(2, Placement::Replicate).iter().enumerate() {
        let of = Expected { what: "the gradient of a norm", place, from: "before" };
        check_bits(&of, &grad_of(rank, 0), &grads[0]);
        check_bytes("norms that every rank computes whole", place, 0, *sent);
    }
}

#[test]
fn an_error_of_the_sum_of_norms_is_passed_on() {
    check_error_is_passed_on("sum_partial_grads", &two(), |mesh| {
        let (parameters, _flat) = parameters(mesh.rank, Placement::Partial);
        tensor_parallel(mesh, SHARED_OUT).sum_partial_grads(&parameters)
    });
}

// The whole

const BATCH: &str = "--global-batch 4 --micro-batch 1 --sequence-parallel";

fn train(model: Model, flags: &str, updates: usize) -> Vec<Updates> {
    let mut start = start::<Config>(7, &model.flags(&format!("{BATCH} {flags}")));
    let texts = step07::held_out::open(&mut start).unwrap().expect("no dry run");
    let config = start.config;
    world_of(&start.launch, move |mesh| {
        let mut trainer = Trainer::new(&config, &texts, mesh)?;
        let all = micro_batches(4, 1, model.vocab);
        let own = all.len() / mesh.layout.dp;
        let own = &all[own * mesh.coords.dp..][..own];
        let (rank, ranks) = (mesh.coords.tp, mesh.layout.tp);
        Updates::take(name(mesh), updates, || {
            let stats = trainer.update(own)?;
            let held = trainer.model.parameters().iter().map(|p| Held {
                name: p.name.clone(),
                weight: p.tensor.shallow_clone(),
                grad: p.tensor.grad(),
                region: p.tp.region(&p.global_shape, rank, ranks),
            });
            Ok((stats, held.collect()))
        })
    })
}

const FORMS: [&str; 6] = [
    "--dp 1 --pp 1 --cp 1 --tp 1",
    "--dp 1 --pp 1 --cp 1 --tp 2 --tp-sync blocking --sp-gather once",
    "--dp 1 --pp 1 --cp 1 --tp 4 --tp-sync overlapped --sp-gather twice",
    "--dp 1 --pp 1 --cp 2 --tp 2 --cp-layout zigzag --recompute layer",
    "--dp 1 --pp 2 --cp 1 --tp 2 --sp-gather once --recompute elementwise",
    "--dp 2 --pp 1 --cp 1 --tp 2 --recompute layer",
];

/// Runs in every form against one device.
fn in_every_form(updates: usize, test: impl Fn(&Updates, &[Updates])) {
    let batch = "--global-batch 4 --micro-batch 1";
    for tied in [false, true] {
        let model = Model { tied, ..Model::default() };
        let one = one_device(model, batch, &micro_batches(4, 1, model.vocab), updates);
        for flags in FORMS {
            test(&one, &train(model, flags, updates));
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
fn an_update_sends_what_sums_did_and_the_gathers_of_its_setting() {
    let (tokens, hidden, layers, micro_batches) = (16, 32, 2, 4);
    for tp in [1, 2, 4] {
        // At each f and g, forward and backward; perhaps a second gather at each f.
        for (gather, in_a_layer) in [("once", 8), ("twice", 10)] {
            let flags = format!("--dp 1 --pp 1 --cp 1 --tp {tp} --sp-gather {gather}");
            for (rank, run) in train(Model::default(), &flags, 1).iter().enumerate() {
                let sum = |numbers: usize| all_reduce_bytes(numbers, 8, rank, tp);
                let half = (tp as u64 - 1) * (tokens * hidden) as u64 / tp as u64 * 8;
                // The embedding, the head's input; a maximum and two sums a token.
                let ends = 4 * half + sum(tokens) + sum(2 * tokens);
                let norms = if tp == 1 { 0 } else { sum((2 * layers + 1) * hidden) };
                let a_pass = in_a_layer * layers as u64 * half + ends;
                let expected = micro_batches * a_pass + norms + sum(1);
                let what = format!("one update, gathered {gather}");
                check_bytes(&what, &run.place, expected, run.updates[0].stats.comm_bytes["tp"]);
            }
        }
    }
}
