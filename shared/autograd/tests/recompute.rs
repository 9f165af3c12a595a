//! Recomputation: the same numbers, and less that is kept.

use anyhow::{Result, bail};
use autograd::{Finish, Input, Module, Stacked, done, recompute};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn leaf(size: &[i64]) -> Tensor {
    Tensor::randn(size, F64).set_requires_grad(true)
}

/// Two layers with a norm, on `weights`.
fn layers(weights: [Tensor; 2]) -> impl Fn(&Tensor) -> Result<Tensor> + Send {
    move |x| Ok(x.linear(&weights[0], None::<&Tensor>).silu().linear(&weights[1], None::<&Tensor>))
}

fn shallow(tensors: &[Tensor; 2]) -> [Tensor; 2] {
    tensors.each_ref().map(Tensor::shallow_clone)
}

/// What `run` gives for x, and the gradients of x and the weights, over two passes.
fn outcome(
    run: impl Fn(&Tensor) -> Result<Tensor>,
    x: &Tensor,
    weights: &[Tensor; 2],
) -> Vec<Tensor> {
    let all = [x, &weights[0], &weights[1]];
    all.into_iter().try_for_each(autograd::clear_grad).unwrap();
    let mut outs = vec![];
    for pass in 1..=2 {
        // x is used beside it too, as by a residual.
        let out = x + run(x).unwrap() * pass;
        autograd::backward(&out.square().sum(Kind::Double)).unwrap();
        outs.push(out.detach());
    }
    outs.extend(all.map(Tensor::grad));
    outs
}

#[test]
fn it_gives_the_same_bits_and_gradients_that_add_up() {
    let (x, weights) = (leaf(&[2, 3, 4]), [leaf(&[6, 4]), leaf(&[4, 6])]);
    let plain = outcome(layers(shallow(&weights)), &x, &weights);
    let again = outcome(|x| recompute(x, layers(shallow(&weights))), &x, &weights);
    assert_eq!(plain, again);
    // Calls in calls.
    let nested = |x: &Tensor| {
        let weights = shallow(&weights);
        recompute(x, move |x| recompute(x, layers(shallow(&weights))))
    };
    assert_eq!(plain, outcome(nested, &x, &weights));
    let module = Module::new(shallow(&weights));
    for kept in [false, true] {
        let run = |x: &Tensor| module.run(x, kept, |weights, x| layers(shallow(weights))(x));
        assert_eq!(plain, outcome(run, &x, &weights));
    }
}

#[test]
fn the_hooks_of_its_weights_fire_once_a_pass_with_the_gradient_complete() {
    let (x, weights) = (leaf(&[3, 4]), [leaf(&[6, 4]), leaf(&[4, 6])]);
    let fired = Arc::new(AtomicUsize::new(0));
    let hooks = weights.each_ref().map(|weight| {
        let (fired, w) = (fired.clone(), weight.shallow_clone());
        let hook = move || {
            assert!(w.grad().defined());
            fired.fetch_add(1, SeqCst);
            Ok(())
        };
        autograd::on_grad_ready(weight, hook).unwrap()
    });
    for pass in 1..=2 {
        let out = recompute(&x, layers(shallow(&weights))).unwrap();
        autograd::backward(&out.sum(Kind::Double)).unwrap();
        assert_eq!(fired.load(SeqCst), 2 * pass);
    }
    drop(hooks);
}

/// Nothing that `forward` makes outlives it, and the second time it runs with history.
#[test]
fn only_the_input_is_kept() {
    let (x, weight) = (leaf(&[3, 4]), leaf(&[3, 4]));
    let made = Arc::new(()); // a copy of it lives as long as the graph of `forward`
    let (token, runs) = (made.clone(), Arc::new(Mutex::new(vec![])));
    let seen = runs.clone();
    let out = recompute(&x, move |x| {
        let held = token.clone();
        let y = autograd::custom([x, &weight], &(x * &weight).detach(), move |grad| {
            let _ = &held;
            Ok([grad.shallow_clone(), grad.shallow_clone()])
        })?;
        seen.lock().unwrap().push((y.requires_grad(), Arc::strong_count(&token)));
        Ok(y)
    })
    .unwrap();
    assert_eq!(Arc::strong_count(&made), 2, "ours, and forward's own");
    autograd::backward(&out.sum(Kind::Double)).unwrap();
    // Without history the inner closure is dropped at once; with it, it is there.
    assert_eq!(*runs.lock().unwrap(), [(false, 2), (true, 3)]);
    drop(out);
    assert_eq!(Arc::strong_count(&made), 1, "the graph is gone");
}

#[test]
fn without_a_gradient_to_compute_it_runs_once() {
    let runs = Arc::new(AtomicUsize::new(0));
    let (weights, counted) = ([leaf(&[6, 4]), leaf(&[4, 6])], runs.clone());
    let forward = layers(shallow(&weights));
    let count = move |x: &Tensor| {
        counted.fetch_add(1, SeqCst);
        forward(x)
    };
    // Data: what the weights need is kept.
    let x = Tensor::randn([3, 4], F64);
    let out = recompute(&x, count).unwrap();
    autograd::backward(&out.sum(Kind::Double)).unwrap();
    assert!(weights.iter().all(|w| w.grad().defined()));
    assert_eq!(runs.load(SeqCst), 1);
    // An evaluation.
    let forward = layers(shallow(&weights));
    let out = tch::no_grad(|| recompute(&leaf(&[3, 4]), forward)).unwrap();
    assert!(!out.requires_grad());
}

#[test]
fn what_fails_inside_it_is_named() {
    let x = leaf(&[3, 4]);
    let error = recompute(&x, |_| bail!("no such weight")).unwrap_err();
    assert_eq!(error.to_string(), "no such weight");
    let runs = AtomicUsize::new(0);
    let second = move |x: &Tensor| {
        if runs.fetch_add(1, SeqCst) == 1 {
            bail!("rank 1 has gone");
        }
        Ok(x * 2.0)
    };
    let out = recompute(&x, second).unwrap();
    let error = autograd::backward(&out.sum(Kind::Double)).unwrap_err();
    assert!(error.to_string().contains("rank 1 has gone"), "{error}");
    let inner =
        recompute(&x, |x| autograd::custom([x], &(x * 2.0).detach(), |_| bail!("the sum failed")));
    let error = autograd::backward(&inner.unwrap().sum(Kind::Double)).unwrap_err();
    assert!(error.to_string().contains("the sum failed"), "{error}");
    let runs = AtomicUsize::new(0);
    let panics = recompute(&x, move |x| {
        assert!(runs.fetch_add(1, SeqCst) == 0, "a broken invariant");
        Ok(x * 2.0)
    });
    let error = autograd::backward(&panics.unwrap().sum(Kind::Double)).unwrap_err();
    assert!(error.to_string().contains("a broken invariant"), "{error}");
}

/// The gradients of x and of the weight of a product that reads `input` of x.
fn product(x: &Tensor, weight: &Tensor, input: impl Fn(&Tensor) -> Input) -> [Tensor; 3] {
    [x, weight].into_iter().try_for_each(autograd::clear_grad).unwrap();
    let stacked = Stacked::new(vec![weight.shallow_clone()]);
    let out = stacked.linear(input(&x.tanh())).unwrap();
    autograd::backward(&out.square().sum(Kind::Double)).unwrap();
    [out.detach(), x.grad(), weight.grad()]
}

#[test]
fn a_product_reads_what_it_makes_again_and_does_not_keep_it() {
    let (x, weight) = (leaf(&[2, 3, 4]), leaf(&[5, 4]));
    let kept = product(&x, &weight, |x| x.into());
    let times = Arc::new(AtomicUsize::new(0));
    let again = product(&x, &weight, |y| {
        let (x, times) = (x.detach(), times.clone());
        Input::again(y, move || {
            times.fetch_add(1, SeqCst);
            Ok(x.tanh())
        })
    });
    assert_eq!(kept, again);
    assert_eq!(times.load(SeqCst), 1);
}

/// Tells that `result` is on its way, and what it returns tells that it has come.
fn travelling(
    result: Tensor,
    order: &Arc<Mutex<Vec<&'static str>>>,
    [start, end]: [&'static str; 2],
) -> Result<Finish> {
    order.lock().unwrap().push(start);
    let order = order.clone();
    Ok(Box::new(move || {
        order.lock().unwrap().push(end);
        Ok(result)
    }))
}

/// As f of sequence parallelism on one rank whose peer has the same: what is there is doubled, and
/// the gradient of both halves is summed.
#[test]
fn what_is_sent_is_made_once_where_it_is_kept_and_twice_where_it_is_not() {
    let (x, weight) = (leaf(&[2, 3, 4]), leaf(&[5, 4]));
    let plain = product(&x, &weight, |x| Tensor::cat(&[x, x], 1).into());
    for (keep, recomputed) in [(true, false), (false, false), (true, true), (false, true)] {
        let (there, order) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(vec![])));
        let sent = product(&x, &weight, |y| {
            let (x, there, order) = (x.detach(), there.clone(), order.clone());
            let back = order.clone();
            let input = if recomputed { Input::again(y, move || Ok(x.tanh())) } else { y.into() };
            let double = move |x: Tensor| {
                there.fetch_add(1, SeqCst);
                travelling(Tensor::cat(&[&x, &x], 1), &order, ["there", "it is"])
            };
            let sum = move |grad: Tensor| {
                let both = grad.narrow(1, 0, 3) + grad.narrow(1, 3, 3);
                travelling(both, &back, ["back", "it is home"])
            };
            input.sent(keep, double, sum).unwrap()
        });
        assert_eq!(plain[0], sent[0]);
        for (a, b) in plain.iter().zip(&sent) {
            assert!(a.allclose(b, 1e-14, 1e-14, false), "keep {keep}");
        }
        assert_eq!(there.load(SeqCst), if keep { 1 } else { 2 });
        // The value is on its way again before the gradient is, and nobody waits for it until the
        // gradient is on its way too.
        let expected = match keep {
            true => vec!["there", "it is", "back", "it is home"],
            false => vec!["there", "it is", "there", "back", "it is", "it is home"],
        };
        assert_eq!(*order.lock().unwrap(), expected);
    }
}

/// To the byte: what a product holds until its backward pass, beside what it gives.
#[test]
fn a_product_keeps_its_input_or_what_makes_it_again_and_never_both() {
    let x = leaf(&[2, 3, 4]);
    let kept = |features: i64, input: &dyn Fn(&Tensor) -> Input| {
        let stacked = Stacked::new(vec![leaf(&[5, features])]);
        let recording = autograd::record_memory().unwrap();
        let out = stacked.linear(input(&(&x * 2.0))).unwrap();
        let held: i64 = recording.finish().iter().map(|change| change.bytes).sum();
        drop(out);
        held
    };
    let again = |y: &Tensor| {
        let x = x.detach();
        Input::again(y, move || Ok(&x * 2.0))
    };
    let least = kept(4, &again); // the output alone
    let bytes = |times: i64| least + 24 * 8 * times;
    assert_eq!(kept(4, &|y| y.into()), bytes(1), "y");
    // Three times as many numbers are made of it.
    let thrice = |x: Tensor| done(Tensor::cat(&[&x, &x, &x], 2));
    let sent =
        |input: Input, keep| input.sent(keep, thrice, |grad| done(grad.narrow(2, 0, 4))).unwrap();
    assert_eq!(kept(12, &|y| sent(y.into(), true)), bytes(3), "what came of y");
    assert_eq!(kept(12, &|y| sent(y.into(), false)), bytes(1), "y");
    assert_eq!(kept(12, &|y| sent(again(y), true)), bytes(3), "what came of y");
    assert_eq!(kept(12, &|y| sent(again(y), false)), bytes(0), "nothing");
}
