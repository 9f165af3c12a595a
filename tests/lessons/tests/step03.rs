//! Step 3, tensor parallelism: f and g alone, then the vocabulary, then the whole.

use autograd::Stacked;
use checkpoint::{Placement, shard_range};
use comm::{Layout, Mesh, all_reduce_bytes};
use launch::Launch;
use lessons::{
    Expected, Held, Model, Updates, check, check_all, check_bits, check_bytes,
    check_error_is_passed_on, check_grads, check_losses, check_norms, check_number, micro_batches,
    numbers, one_device, place, start, tokens, world, world_of,
};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use step03::config::Config;
use step03::layers::Parameter;
use step03::optimizer::grad_norm;
use step03::tensor_parallel::TensorParallel;
use step03::train::Trainer;
use step03::vocab_parallel::VocabParallel;
use tch::{Kind, Tensor};

/// What never comes is waited for as long; all else takes milliseconds.
const NEVER: Duration = Duration::from_secs(2);

fn ranks(tp: usize) -> Layout {
    Layout { tp, ..Layout::default() }
}

fn name(mesh: &Mesh) -> String {
    place(mesh.layout, mesh.coords)
}

fn tensor_parallel(mesh: &Mesh, sync: &str) -> TensorParallel {
    let flags = Model::default().flags(&format!("--tp {} --tp-sync {sync}", mesh.layout.tp));
    TensorParallel::new(&start::<Config>(3, &flags).config, mesh)
}

fn leaf(seed: i64, shape: &[i64]) -> Tensor {
    numbers(seed, shape).set_requires_grad(true)
}

fn sum(ranks: usize, of: impl Fn(usize) -> Tensor) -> Tensor {
    (1..ranks).fold(of(0).copy(), |sum, rank| sum + of(rank))
}

// g

#[test]
fn g_is_the_sum_of_what_the_ranks_bring() {
    for tp in [1, 2, 4] {
        let shape = [2, 3, 5];
        let outcomes = world(ranks(tp), move |mesh| {
            let partial = leaf(mesh.rank as i64, &shape) * 1.0;
            Ok((name(mesh), tensor_parallel(mesh, "blocking").g(partial)?.detach()))
        });
        let expected = sum(tp, |rank| numbers(rank as i64, &shape));
        for (place, got) in &outcomes {
            check(&Expected { what: "g", place, from: "the plain sum" }, &expected, got);
        }
    }
}

#[test]
fn the_gradient_of_g_goes_on_as_it_is() {
    let shape = [2, 3, 5];
    let outcomes = world(ranks(2), move |mesh| {
        let partial = leaf(mesh.rank as i64, &shape);
        let sum = tensor_parallel(mesh, "blocking").g(&partial * 1.0)?;
        let sent = mesh.tp.bytes_sent();
        autograd::backward_with(&sum, &numbers(9, &shape))?;
        Ok((name(mesh), partial.grad(), mesh.tp.bytes_sent() - sent))
    });
    for (place, grad, sent) in &outcomes {
        let of = Expected { what: "the gradient of g's input", place, from: "that of its output" };
        check_bits(&of, &numbers(9, &shape), grad);
        check_bytes("g in the backward pass", place, 0, *sent);
    }
}

// f

#[test]
fn f_leaves_its_input_as_it_is() {
    let shape = [2, 3, 5];
    let outcomes = world(ranks(2), move |mesh| {
        let x = leaf(4, &shape);
        let y = tensor_parallel(mesh, "blocking").f(&x)?;
        Ok((name(mesh), y.detach(), mesh.tp.bytes_sent()))
    });
    for (place, got, sent) in &outcomes {
        check_bits(&Expected { what: "f", place, from: "its input" }, &numbers(4, &shape), got);
        check_bytes("f in the forward pass", place, 0, *sent);
    }
}

#[test]
fn the_gradient_of_f_is_the_sum_over_the_ranks() {
    for tp in [1, 2, 4] {
        let shape = [2, 3, 5];
        let outcomes = world(ranks(tp), move |mesh| {
            let x = leaf(4, &shape);
            let y = tensor_parallel(mesh, "blocking").f(&x)?;
            // Each rank goes on in its own way.
            autograd::backward(&(y * numbers(mesh.rank as i64, &shape)).sum(Kind::Double))?;
            Ok((name(mesh), x.grad()))
        });
        let expected = sum(tp, |rank| numbers(rank as i64, &shape));
        for (place, grad) in &outcomes {
            let from = "the sum of the ranks' gradients";
            check(&Expected { what: "the gradient of f's input", place, from }, &expected, grad);
        }
    }
}

/// What a group refuses, here a sum of complex numbers, is an error of whoever asked for it.
#[test]
fn an_error_of_the_group_is_passed_on() {
    let swallowed = Arc::new(Mutex::new(vec![]));
    let seen = swallowed.clone();
    let launch = Launch { layout: ranks(2), timeout: lessons::PATIENCE, ..Launch::default() };
    let _ = launch::launch(&launch, move |mesh| {
        let tp = tensor_parallel(mesh, "blocking");
        let x = numbers(1, &[4]).to_kind(Kind::ComplexDouble).set_requires_grad(true);
        let passed = match mesh.rank {
            0 => ("g", tp.g(&x * 1.0).is_err()),
            _ => {
                let y = tp.f(&x)?;
                ("f", autograd::backward_with(&y, &x.detach()).is_err())
            }
        };
        seen.lock().unwrap().push(passed);
        Ok(())
    });
    for (operator, passed) in swallowed.lock().unwrap().iter() {
        assert!(passed, "the group's all-reduce fails, and {operator} says that all is well");
    }
    assert_eq!(swallowed.lock().unwrap().len(), 2, "a rank panicked in place of an error");
}

// f, overlapped

/// A column-parallel product: [6, 5] times a weight of this rank, [4, 5].
fn product(mesh: &Mesh, sync: &str) -> anyhow::Result<[Tensor; 3]> {
    let (x, weight) = (leaf(4, &[6, 5]), leaf(10 + mesh.rank as i64, &[4, 5]));
    let weights = Stacked::new(vec![weight.shallow_clone()]);
    let y = weights.linear(tensor_parallel(mesh, sync).before_product(&x)?)?;
    Ok([x, weight, y])
}

#[test]
fn both_forms_of_f_give_a_product_the_same_gradients() {
    let grad = |rank: usize| numbers(20 + rank as i64, &[6, 4]);
    for sync in ["blocking", "overlapped"] {
        for tp in [1, 2, 4] {
            let outcomes = world(ranks(tp), move |mesh| {
                let [x, weight, y] = product(mesh, sync)?;
                let sent = mesh.tp.bytes_sent();
                autograd::backward_with(&y, &grad(mesh.rank))?;
                let sent = mesh.tp.bytes_sent() - sent;
                Ok((name(mesh), y.detach(), x.grad(), weight.grad(), sent))
            });
            let x = numbers(4, &[6, 5]);
            let weight = |rank: usize| numbers(10 + rank as i64, &[4, 5]);
            let grad_x = sum(tp, |rank| grad(rank).matmul(&weight(rank)));
            for (rank, (place, y, grad_of_x, grad_of_weight, sent)) in outcomes.iter().enumerate() {
                let of = |what| Expected { what, place, from: "plain products" };
                let output = format!("behind f ({sync}), the product");
                check(&of(&output), &x.matmul(&weight(rank).tr()), y);
                let input = format!("behind f ({sync}), the gradient of the product's input");
                check(&of(&input), &grad_x, grad_of_x);
                let weights = format!("behind f ({sync}), the gradient of the weight");
                check(&of(&weights), &grad(rank).tr().matmul(&x), grad_of_weight);
                let expected = all_reduce_bytes(30, 8, rank, tp);
                check_bytes(&format!("f ({sync}) in the backward pass"), place, expected, *sent);
            }
        }
    }
}

/// The last number of a gradient, read while another thread may be adding to it.
fn is_there(grad: &Tensor) -> bool {
    grad.double_value(&[-1, -1]) != 0.0
}

/// On tp rank 0 of two, a column-parallel product large enough to take a while, and the gradient of
/// its weight, still zeros. The other rank only takes part in the sum.
fn large_product(mesh: &Mesh) -> anyhow::Result<[Tensor; 2]> {
    let (x, weight) = (leaf(4, &[32, 512]), leaf(5, &[2048, 512]));
    let grad = weight.detach().zeros_like();
    autograd::set_grad(&weight, &grad)?;
    let weights = Stacked::new(vec![weight]);
    let y = weights.linear(tensor_parallel(mesh, "overlapped").before_product(&x)?)?;
    Ok([y, grad])
}

/// Looks for the sum while the gradient of the weight is not there yet. A busy machine may look too
/// late, so it tries some times; where the sum starts later, no look finds it.
#[test]
fn the_overlapped_sum_sets_out_before_the_weights_gradient_is_there() {
    let outcomes = world(ranks(2), |mesh| {
        let mut seen = false;
        for _ in 0..30 {
            if mesh.tp.highest(u64::from(seen))? == 1 {
                break; // once is enough
            }
            if mesh.rank == 1 {
                mesh.tp.all_reduce(&numbers(6, &[32, 512]))?;
                continue;
            }
            let [y, grad] = large_product(mesh)?;
            let (group, before) = (mesh.tp.clone(), mesh.tp.bytes_sent());
            let looking = std::thread::spawn(move || {
                let since = Instant::now();
                while since.elapsed() < NEVER {
                    let sent = group.bytes_sent() > before;
                    match (sent, is_there(&grad)) {
                        (true, false) => return true,
                        (_, true) => return false,
                        (false, false) => std::thread::yield_now(),
                    }
                }
                false
            });
            autograd::backward_with(&y, &numbers(20, &[32, 2048]))?;
            seen |= looking.join().unwrap_or(false);
        }
        Ok(seen)
    });
    assert!(
        outcomes[0],
        "tp rank 0 computes the gradient of the weight, and has sent nothing of that of x: \
         the sum must start before"
    );
}

#[test]
fn the_overlapped_sum_is_waited_for_after_the_weights_gradient() {
    let shared = Mutex::new(None::<Tensor>);
    let outcomes = world(ranks(2), move |mesh| {
        if mesh.rank == 0 {
            let [y, grad] = large_product(mesh)?;
            *shared.lock().unwrap() = Some(grad);
            mesh.world.barrier()?;
            autograd::backward_with(&y, &numbers(20, &[32, 2048]))?;
            return Ok(true);
        }
        // Takes part in the sum only when rank 0 has computed its weight's gradient.
        mesh.world.barrier()?;
        let grad = shared.lock().unwrap().take().expect("rank 0 has put it there");
        let since = Instant::now();
        while !is_there(&grad) && since.elapsed() < NEVER {
            std::thread::sleep(Duration::from_millis(1));
        }
        let in_time = is_there(&grad);
        mesh.tp.all_reduce(&numbers(6, &[32, 512]))?;
        Ok(in_time)
    });
    assert!(
        outcomes[1],
        "tp rank 0 waits for the sum before it computes the gradient of the weight: \
         wait in the function that is called afterwards"
    );
}

fn two() -> Launch {
    Launch { layout: ranks(2), timeout: lessons::PATIENCE, ..Launch::default() }
}

#[test]
fn an_error_of_the_overlapped_sum_is_passed_on() {
    check_error_is_passed_on("f_overlapped", &two(), |mesh| {
        let [_x, _weight, y] = product(mesh, "overlapped")?;
        autograd::backward_with(&y, &numbers(20, &[6, 4]))
    });
}

// The vocabulary

const WORDS: i64 = 259;
const HIDDEN: i64 = 8;

/// The rows of `whole` that a rank has.
fn rows(whole: &Tensor, rank: usize, tp: usize) -> Tensor {
    let range = shard_range(WORDS, rank, tp);
    whole.narrow(0, range.start, range.end - range.start)
}

#[test]
fn a_rank_finds_the_words_of_its_own_rows_and_zeros_for_the_others() {
    for tp in [1, 2, 4] {
        let outcomes = world(ranks(tp), move |mesh| {
            let table = rows(&numbers(1, &[WORDS, HIDDEN]), mesh.rank, tp);
            let vocab = VocabParallel::new(WORDS, &mesh.tp);
            Ok((name(mesh), vocab.embedding(&tokens(5, 2, 160, WORDS), &table)))
        });
        let all = tokens(5, 2, 160, WORDS);
        for (rank, (place, got)) in outcomes.iter().enumerate() {
            let range = shard_range(WORDS, rank, tp);
            let own = all.ge(range.start).logical_and(&all.lt(range.end)).unsqueeze(-1);
            let expected =
                Tensor::embedding(&numbers(1, &[WORDS, HIDDEN]), &all, -1, false, false) * own;
            let of = Expected { what: "its part of the embedding", place, from: "the whole table" };
            check_bits(&of, &expected, got);
        }
    }
}

#[test]
fn the_embedding_gives_each_row_the_gradient_of_its_own_words() {
    let tp = 4;
    let grad = || numbers(3, &[2, 160, HIDDEN]);
    let outcomes = world(ranks(tp), move |mesh| {
        let table = rows(&numbers(1, &[WORDS, HIDDEN]), mesh.rank, tp).copy();
        let table = table.set_requires_grad(true);
        let vocab = VocabParallel::new(WORDS, &mesh.tp);
        let found = vocab.embedding(&tokens(5, 2, 160, WORDS), &table);
        autograd::backward_with(&found, &grad())?;
        Ok((name(mesh), table.grad()))
    });
    let whole = Tensor::zeros([WORDS, HIDDEN], (Kind::Double, tch::Device::Cpu));
    let ids = tokens(5, 2, 160, WORDS).flatten(0, -1);
    let whole = whole.index_add(0, &ids, &grad().flatten(0, 1));
    for (rank, (place, got)) in outcomes.iter().enumerate() {
        let of = Expected { what: "the gradient of its table", place, from: "the whole table's" };
        check(&of, &rows(&whole, rank, tp), got);
    }
}

/// Input of the head and its weight: tokens in two chunks, [40, 16, 8].
fn head(scale: f64) -> (Tensor, Tensor, Tensor) {
    let x = numbers(2, &[40, 16, HIDDEN]) * scale;
    (x, numbers(1, &[WORDS, HIDDEN]) * scale, tokens(5, 40, 16, WORDS))
}

/// Loss, and gradients of input and head, on one device; each rank's input gradient is a part.
fn whole_loss(scale: f64) -> (Tensor, Tensor, Tensor, Tensor) {
    let (x, weight, targets) = head(scale);
    let logits = x.flatten(0, 1).matmul(&weight.tr()); // [tokens, words]
    let targets = targets.flatten(0, 1).unsqueeze(1);
    let loss = -logits.log_softmax(1, Kind::Double).gather(1, &targets, false).sum(Kind::Double);
    let minus = Tensor::full_like(&targets, -1.0).to_kind(Kind::Double);
    let grad = logits.softmax(1, Kind::Double).scatter_add(1, &targets, &minus); // [tokens, words]
    let grad_weight = grad.tr().matmul(&x.flatten(0, 1));
    (loss, grad, weight, grad_weight)
}

#[test]
fn the_loss_is_that_of_the_whole_vocabulary() {
    for tp in [1, 2, 4] {
        let outcomes = world(ranks(tp), move |mesh| {
            let (x, weight, targets) = head(1.0);
            let vocab = VocabParallel::new(WORDS, &mesh.tp);
            let x = x.set_requires_grad(true);
            let weight = rows(&weight, mesh.rank, tp);
            Ok((name(mesh), vocab.cross_entropy_sum(&x, &weight, &targets)?.double_value(&[])))
        });
        let (expected, ..) = whole_loss(1.0);
        for (place, got) in &outcomes {
            let of = Expected { what: "the cross-entropy", place, from: "all logits" };
            check_number(&of, expected.double_value(&[]), *got);
        }
    }
}

#[test]
fn scores_of_a_thousand_overflow_on_no_rank() {
    let outcomes = world(ranks(2), move |mesh| {
        let (x, weight, targets) = head(20.0);
        let vocab = VocabParallel::new(WORDS, &mesh.tp);
        let x = x.set_requires_grad(true);
        let weight = rows(&weight, mesh.rank, 2);
        Ok((name(mesh), vocab.cross_entropy_sum(&x, &weight, &targets)?.double_value(&[])))
    });
    let (expected, ..) = whole_loss(20.0);
    for (place, got) in &outcomes {
        let of = Expected { what: "the cross-entropy of large scores", place, from: "all logits" };
        check_number(&of, expected.double_value(&[]), *got);
    }
}

#[test]
fn a_loss_that_nobody_differentiates_is_the_same() {
    let outcomes = world(ranks(2), move |mesh| {
        let (x, weight, targets) = head(1.0);
        let vocab = VocabParallel::new(WORDS, &mesh.tp);
        let loss = vocab.cross_entropy_sum(&x, &rows(&weight, mesh.rank, 2), &targets)?;
        Ok((name(mesh), loss.double_value(&[])))
    });
    let (expected, ..) = whole_loss(1.0);
    for (place, got) in &outcomes {
        let of = Expected { what: "the cross-entropy of an evaluation", place, from: "all logits" };
        check_number(&of, expected.double_value(&[]), *got);
    }
}

#[test]
fn the_gradients_of_the_loss_are_those_of_a_ranks_own_words() {
    for tp in [1, 2, 4] {
        let outcomes = world(ranks(tp), move |mesh| {
            let (x, weight, targets) = head(1.0);
            let vocab = VocabParallel::new(WORDS, &mesh.tp);
            let x = x.set_requires_grad(true);
            let weight = rows(&weight, mesh.rank, tp).copy().set_requires_grad(true);
            let loss = vocab.cross_entropy_sum(&x, &weight, &targets)?;
            autograd::backward(&(loss * 0.25))?;
            Ok((name(mesh), x.grad(), weight.grad()))
        });
        let (_, grad, weight, grad_weight) = whole_loss(1.0);
        for (rank, (place, grad_of_x, grad_of_weight)) in outcomes.iter().enumerate() {
            let of = |what| Expected { what, place, from: "all logits, of its own words" };
            let own = rows(&grad.tr(), rank, tp).tr();
            let expected = own.matmul(&rows(&weight, rank, tp)).view([40, 16, HIDDEN]) * 0.25;
            check(&of("the gradient of the head's input"), &expected, grad_of_x);
            let expected = rows(&grad_weight, rank, tp) * 0.25;
            check(&of("the gradient of the head"), &expected, grad_of_weight);
        }
    }
}

#[test]
fn three_numbers_a_token_cross_the_ranks_and_no_logits() {
    let tp = 4;
    let outcomes = world(ranks(tp), move |mesh| {
        let (x, weight, targets) = head(1.0);
        let vocab = VocabParallel::new(WORDS, &mesh.tp);
        let (x, weight) = (x.set_requires_grad(true), rows(&weight, mesh.rank, tp));
        let loss = vocab.cross_entropy_sum(&x, &weight, &targets)?;
        autograd::backward(&loss)?;
        Ok((name(mesh), mesh.tp.bytes_sent()))
    });
    for (rank, (place, sent)) in outcomes.iter().enumerate() {
        // A maximum and two sums, for a chunk of 512 tokens and one of 128.
        let sums = |numbers: usize| all_reduce_bytes(numbers, 8, rank, tp);
        let expected = [512, 128].map(|tokens| sums(tokens) + sums(2 * tokens)).iter().sum();
        check_bytes("the loss of 640 tokens", place, expected, *sent);
    }
}

#[test]
fn an_error_in_the_loss_is_passed_on() {
    check_error_is_passed_on("the cross-entropy", &two(), |mesh| {
        let (x, weight, targets) = head(1.0);
        let vocab = VocabParallel::new(WORDS, &mesh.tp);
        vocab.cross_entropy_sum(&x, &rows(&weight, mesh.rank, 2), &targets).map(|_| ())
    });
}

// The norm

#[test]
fn the_norm_counts_each_number_of_the_gradient_once() {
    let tp = 2;
    let outcomes = world(ranks(tp), move |mesh| {
        let parameter = |name: &str, grad: Tensor, tp: Placement| {
            let tensor = grad.zeros_like().set_requires_grad(true);
            autograd::set_grad(&tensor, &grad).unwrap();
            let global_shape = vec![];
            Parameter { name: name.into(), tensor, global_shape, decays: true, tp }
        };
        let shard = numbers(6, &[4, 6]).narrow(0, 2 * mesh.rank as i64, 2).copy();
        let parameters = [
            parameter("a sharded matrix", shard, Placement::Shard(0)),
            parameter("a norm", numbers(7, &[6]), Placement::Replicate),
        ];
        Ok((name(mesh), grad_norm(&parameters, mesh)?.double_value(&[])))
    });
    let square = |t: Tensor| t.square().sum(Kind::Double).double_value(&[]);
    let expected = (square(numbers(6, &[4, 6])) + square(numbers(7, &[6]))).sqrt();
    for (place, got) in &outcomes {
        let from = "24 numbers in two shards, and 6 that both ranks hold";
        check_number(&Expected { what: "the gradient norm", place, from }, expected, *got);
    }
}

#[test]
fn an_error_in_the_norm_is_passed_on() {
    check_error_is_passed_on("the gradient norm", &two(), |mesh| {
        let tensor = numbers(7, &[6]).set_requires_grad(true);
        autograd::set_grad(&tensor, &numbers(8, &[6]))?;
        let (name, tp) = (String::new(), Placement::Shard(0));
        let parameter = Parameter { name, tensor, global_shape: vec![12], decays: false, tp };
        grad_norm(&[parameter], mesh).map(|_| ())
    });
}

// The whole

const BATCH: &str = "--global-batch 4 --micro-batch 2 --dp 1";

fn train(model: Model, tp: usize, sync: &str, updates: usize) -> Vec<Updates> {
    let flags = model.flags(&format!("{BATCH} --tp {tp} --tp-sync {sync}"));
    let mut start = start::<Config>(3, &flags);
    let text = step03::text::open(&mut start).unwrap();
    let config = start.config;
    world_of(&start.launch, move |mesh| {
        let mut trainer = Trainer::new(&config, &text, mesh)?;
        let micro_batches = micro_batches(2, 2, model.vocab);
        let (rank, ranks) = (mesh.coords.tp, mesh.layout.tp);
        Updates::take(name(mesh), updates, || {
            let stats = trainer.update(&micro_batches)?;
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

/// Runs in every form against one device.
fn in_every_form(updates: usize, test: impl Fn(&Updates, &[Updates])) {
    for tied in [false, true] {
        let model = Model { tied, ..Model::default() };
        let batch = "--global-batch 4 --micro-batch 2";
        let one = one_device(model, batch, &micro_batches(2, 2, model.vocab), updates);
        for (tp, sync) in [(1, "blocking"), (2, "blocking"), (2, "overlapped"), (4, "overlapped")] {
            test(&one, &train(model, tp, sync, updates));
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
fn a_layer_sends_two_sums_forward_and_two_backward() {
    let (tokens, hidden, layers, micro_batches) = (2 * 16, 32, 2, 2);
    for tp in [1, 2, 4] {
        for (rank, run) in train(Model::default(), tp, "overlapped", 1).iter().enumerate() {
            let sum = |numbers: usize| all_reduce_bytes(numbers, 8, rank, tp);
            let activations = sum(tokens * hidden);
            // The embedding; the gradient of the head's input, a maximum and two sums a token.
            let ends = 2 * activations + sum(tokens) + sum(2 * tokens);
            let expected = micro_batches * (4 * layers * activations + ends) + sum(1);
            let sent = run.updates[0].stats.comm_bytes["tp"];
            check_bytes("one update", &run.place, expected, sent);
        }
    }
}
