//! The lesson on recomputation: what comes out, what is kept, what is computed again, which
//! gradients are added.

mod block;

use anyhow::ensure;
use autograd::recompute;
use block::{Alive, Runs, beside, block, check, grad, leaf, numbers, plain, without};
use std::sync::{Arc, Mutex, PoisonError};
use tch::{Kind, Tensor};

#[test]
fn the_output_is_that_of_forward() {
    let (x, weight) = (leaf(1, &[4, 3]), leaf(2, &[3, 5]));
    let expected = plain(&weight)(&x).unwrap().detach();
    let y = recompute(&x, plain(&weight)).unwrap();
    check("the output", &expected, &y.detach());
    assert!(y.requires_grad(), "the output has no way back to its input");
}

#[test]
fn nothing_is_kept_until_the_backward_pass() {
    let (x, weight, kept) = (leaf(1, &[4, 3]), leaf(2, &[3, 5]), Alive::default());
    let _y = recompute(&x, block(&weight, &Runs::default(), &kept)).unwrap();
    let kept = kept.count();
    assert_eq!(kept, 0, "how many of forward's operations keep what they computed from");
}

#[test]
fn the_forward_pass_records_no_history() {
    let (x, weight, runs) = (leaf(1, &[4, 3]), leaf(2, &[3, 5]), Runs::default());
    let _y = recompute(&x, block(&weight, &runs, &Alive::default())).unwrap();
    let seen = runs.seen();
    assert_eq!(seen.len(), 1, "how often forward runs before the backward pass");
    assert_eq!(seen, [false], "whether forward records history before the backward pass");
}

#[test]
fn the_backward_pass_computes_it_again_with_history() {
    let (x, weight, runs) = (leaf(1, &[4, 3]), leaf(2, &[3, 5]), Runs::default());
    let y = recompute(&x, block(&weight, &runs, &Alive::default())).unwrap();
    autograd::backward_with(&y, &numbers(3, &[4, 5])).unwrap();
    let seen = runs.seen();
    assert_eq!(seen.len(), 2, "how often forward runs, backward pass included");
    assert_eq!(seen, [false, true], "whether forward records history, the second time it must");
}

#[test]
fn the_gradient_of_the_input_is_that_without_recomputation() {
    let (x, weight) = (leaf(1, &[4, 3]), leaf(2, &[3, 5]));
    let [expected, _] = without(&x, &weight);
    let y = beside(&x, |x| recompute(x, plain(&weight))).unwrap();
    autograd::backward_with(&y, &grad()).unwrap();
    check("the gradient of what comes before", &expected, &x.grad());
}

#[test]
fn the_gradient_of_a_parameter_is_added_once() {
    let (x, weight) = (leaf(1, &[4, 3]), leaf(2, &[3, 5]));
    let [_, expected] = without(&x, &weight);
    let y = beside(&x, |x| recompute(x, plain(&weight))).unwrap();
    autograd::backward_with(&y, &grad()).unwrap();
    check("the gradient of a weight", &expected, &weight.grad());
}

#[test]
fn a_second_micro_batch_adds_to_the_first() {
    let weight = leaf(2, &[3, 5]);
    let inputs = [leaf(1, &[4, 3]), leaf(4, &[4, 3])];
    let each = inputs.each_ref().map(|x| without(x, &weight));
    // Both forward passes, then both backward passes: as a pipeline has them.
    let outputs = inputs.each_ref().map(|x| beside(x, |x| recompute(x, plain(&weight))).unwrap());
    for y in outputs {
        autograd::backward_with(&y, &grad()).unwrap();
    }
    let [[first, _], [second, _]] = &each;
    check("the gradient of the first input", first, &inputs[0].grad());
    check("the gradient of the second input", second, &inputs[1].grad());
    let expected = &each[0][1] + &each[1][1];
    check("the gradient of a weight after two micro-batches", &expected, &weight.grad());
}

#[test]
fn a_hook_of_a_parameter_runs_once_a_pass() {
    let (x, weight) = (leaf(1, &[4, 3]), leaf(2, &[3, 5]));
    let expected = without(&x, &weight).map(|grad| grad.sum(Kind::Double));
    let seen: Arc<Mutex<Vec<f64>>> = Arc::default();
    let told = seen.clone();
    let of_hook = Mutex::new(weight.shallow_clone());
    let _hook = autograd::on_grad_ready(&weight, move || {
        let grad = of_hook.lock().unwrap_or_else(PoisonError::into_inner).grad();
        told.lock().unwrap().push(grad.sum(Kind::Double).double_value(&[]));
        Ok(())
    })
    .unwrap();
    let y = beside(&x, |x| recompute(x, plain(&weight))).unwrap();
    autograd::backward_with(&y, &grad()).unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 1, "how often a weight's hook runs in one backward pass");
    let of = "the sum of a weight's gradient when its hook runs";
    assert_eq!(seen[0], expected[1].double_value(&[]), "{of}");
}

#[test]
fn what_it_holds_is_freed_with_its_output() {
    let (x, weight) = (leaf(1, &[4, 3]), leaf(2, &[3, 5]));
    for (differentiated, when) in [(true, "after a backward pass"), (false, "without one")] {
        let (kept, held) = (Alive::default(), Alive::default());
        let (token, forward) = (held.token(), block(&weight, &Runs::default(), &kept));
        let y = recompute(&x, move |x| {
            let _ = &token;
            forward(x)
        })
        .unwrap();
        if differentiated {
            autograd::backward_with(&y, &numbers(3, &[4, 5])).unwrap();
        }
        drop(y);
        assert_eq!(kept.count(), 0, "{when}, forward's operations that are still there");
        assert_eq!(held.count(), 0, "{when}, functions `forward` that are still there");
    }
}

#[test]
fn an_input_without_a_gradient_is_computed_once() {
    let (x, weight, runs) = (numbers(1, &[4, 3]), leaf(2, &[3, 5]), Runs::default());
    let [_, expected] = without(&x, &weight);
    let again = |x: &Tensor| recompute(x, block(&weight, &runs, &Alive::default()));
    let y = beside(&x, again).unwrap();
    assert!(y.requires_grad(), "the gradient of a weight is lost where its input needs none");
    autograd::backward_with(&y, &grad()).unwrap();
    assert_eq!(runs.seen(), [true], "whether forward records history, for each time it runs");
    check("the gradient of a weight whose input needs none", &expected, &weight.grad());
}

#[test]
fn a_part_of_it_may_be_recomputed_by_itself() {
    let (x, first, second) = (leaf(1, &[4, 3]), leaf(2, &[3, 5]), leaf(4, &[5, 2]));
    let grad = numbers(3, &[4, 2]);
    let weights = || [first.detach().copy(), second.detach().copy()];
    let [a, b] = weights().map(|weight| weight.set_requires_grad(true));
    let plain_x = x.detach().copy().set_requires_grad(true);
    let y = plain(&b)(&plain(&a)(&plain_x).unwrap()).unwrap();
    autograd::backward_with(&y, &grad).unwrap();

    let runs = Runs::default();
    let inner = block(&second, &runs, &Alive::default());
    let (outer, inner) = (plain(&first), Arc::new(Mutex::new(inner)));
    let nested = move |x: &Tensor| {
        let inner = inner.clone();
        recompute(&outer(x)?, move |x| inner.lock().unwrap_or_else(PoisonError::into_inner)(x))
    };
    let y = recompute(&x, nested).unwrap();
    autograd::backward_with(&y, &grad).unwrap();
    let seen = runs.seen();
    assert_eq!(seen, [false, false, true], "whether the inner part records history, each time");
    check("the gradient of the input of a nested part", &plain_x.grad(), &x.grad());
    check("the gradient of the outer part's weight", &a.grad(), &first.grad());
    check("the gradient of the inner part's weight", &b.grad(), &second.grad());
}

#[test]
fn an_error_of_forward_is_passed_on() {
    let x = leaf(1, &[4, 3]);
    let failed = recompute(&x, |x| {
        ensure!(x.size()[0] == 5, "no neighbour, the first time");
        Ok(x.shallow_clone())
    });
    let error = failed.expect_err("forward fails, and `recompute` says that all is well");
    assert!(format!("{error:#}").contains("no neighbour"), "the sentence is another: {error:#}");
}

#[test]
fn an_error_of_the_second_run_ends_the_backward_pass() {
    let (x, runs) = (leaf(1, &[4, 3]), Runs::default());
    let told = runs.clone();
    let y = recompute(&x, move |x| {
        told.add(true);
        ensure!(told.seen().len() < 2, "no neighbour, the second time");
        Ok(x * 2.0)
    })
    .unwrap();
    let failed = autograd::backward_with(&y, &numbers(3, &[4, 3]));
    let error = failed.expect_err("forward fails in the backward pass, and nobody says so");
    assert!(format!("{error:#}").contains("no neighbour"), "the sentence is another: {error:#}");
}
