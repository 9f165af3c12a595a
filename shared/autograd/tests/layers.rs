//! The operations of a Llama's layers: each against its formula, in plain operations that autograd
//! differentiates by itself.

use autograd::{Input, Rotation, Stacked};
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

#[test]
fn swiglu_and_its_gradient_are_what_autograd_makes_of_the_formula() {
    let x = Tensor::randn([2, 5, 12], F64).set_requires_grad(true);
    let weight = Tensor::randn([2, 5, 6], F64);
    let run = |out: Tensor| {
        let loss = (&out * &weight).sum(Kind::Double);
        let grad = Tensor::run_backward(&[loss], &[&x], false, false).remove(0);
        (out.detach(), grad)
    };
    let parts = x.chunk(2, -1);
    // The same operations on the same numbers, in another place.
    assert_eq!(run(autograd::swiglu(&x).unwrap()), run(parts[0].silu() * &parts[1]));
}

/// A leaf of numbers.
fn leaf(size: &[i64]) -> Tensor {
    Tensor::randn(size, F64).set_requires_grad(true)
}

#[test]
fn a_layout_by_feature_reaches_from_gate_and_up_to_the_gradient_of_their_product() {
    let [x, gate_up, down] = [leaf(&[2, 5, 4]), leaf(&[12, 4]), leaf(&[4, 6])];
    let [wide, narrow] = [&gate_up, &down].map(|w| Stacked::new(vec![w.shallow_clone()]));
    let run = |product: fn(&Stacked, &Tensor) -> anyhow::Result<Tensor>| {
        [&gate_up, &down].into_iter().try_for_each(autograd::clear_grad).unwrap();
        let both = product(&wide, &x).unwrap(); // [2, 5, 12]
        let between = autograd::swiglu(&both).unwrap(); // [2, 5, 6]
        let loss = narrow.linear(&between).unwrap().square().sum(Kind::Double);
        let mut grads = Tensor::run_backward(&[loss], &[&between, &x], false, false);
        grads.extend([gate_up.grad(), down.grad()]);
        (both.detach(), between.detach(), grads)
    };
    let ((both, between, grads), (other, _, others)) =
        (run(|w, x| w.linear_by_feature(x)), run(|w, x| w.linear(x)));

    // Gate, up, what SwiGLU makes of them and its gradient: each in one piece, token beside token.
    for (name, t) in [("both", &both), ("between", &between), ("gradient", &grads[0])] {
        assert_eq!(t.stride(), [5, 1, 10], "{name}");
    }
    // The terms of a sum may come in another order: some units in the last place.
    assert!(both.allclose(&other, 1e-13, 1e-13, false));
    for (mine, theirs) in grads.iter().zip(&others) {
        assert!(mine.allclose(theirs, 1e-12, 1e-12, false));
    }
}

#[test]
fn a_product_adds_to_the_gradients_of_all_weights_that_it_reads() {
    let [x, a, b] = [leaf(&[2, 5, 4]), leaf(&[3, 4]), leaf(&[2, 4])];
    let stacked = Stacked::new(vec![a.shallow_clone(), b.shallow_clone()]);
    let factor = Tensor::randn([2, 5, 5], F64);
    let loss = |out: Tensor| (out * &factor).sum(Kind::Double);

    let whole = Tensor::cat(&[&a, &b], 0);
    let expected =
        Tensor::run_backward(&[loss(x.matmul(&whole.tr()))], &[&x, &a, &b], false, false);
    // That of `b` goes where its bucket wants it.
    let bucket = Tensor::zeros([10], F64);
    autograd::set_grad(&b, &bucket.narrow(0, 2, 8).view_as(&b)).unwrap();
    for pass in 1..=2 {
        for out in [stacked.linear(&x), stacked.linear_by_feature(&x)] {
            autograd::backward(&loss(out.unwrap())).unwrap();
        }
        for (tensor, once) in [&x, &a, &b].into_iter().zip(&expected) {
            // Sums of a few terms: some units in the last place.
            assert!(tensor.grad().allclose(&(once * 2 * pass), 1e-13, 1e-13, false), "pass {pass}");
        }
    }
    let held = bucket.narrow(0, 2, 8).view_as(&b);
    assert_eq!(held, b.grad());
    assert_eq!(bucket.narrow(0, 0, 2), Tensor::zeros([2], F64));
}

#[test]
fn gradients_in_f32_take_products_in_bf16() {
    let weight = Tensor::randn([3, 4], F32).set_requires_grad(true);
    let x = Tensor::randn([6, 4], F32).to_kind(Kind::BFloat16).set_requires_grad(true);
    let factor = Tensor::randn([6, 3], F32).to_kind(Kind::BFloat16);
    let stacked = Stacked::new(vec![weight.shallow_clone()]);
    let once = factor.tr().matmul(&x.detach()).to_kind(Kind::Float);
    for pass in 1..=3 {
        autograd::backward_with(&stacked.linear(&x).unwrap(), &factor).unwrap();
        let expected = (1..pass).fold(once.shallow_clone(), |sum, _| sum + &once);
        assert_eq!(weight.grad(), expected, "pass {pass}");
    }
    // bf16 keeps eight bits.
    let exact = factor.to_kind(Kind::Float).tr().matmul(&x.detach().to_kind(Kind::Float));
    let product = autograd::product(&factor.tr(), &x.detach(), Kind::Float).unwrap();
    assert!(product.allclose(&exact, 0.01, 0.01, false) && product.kind() == Kind::Float);
}

#[test]
fn a_product_runs_the_hooks_of_its_weights_once_each_and_before_the_pass_goes_on() {
    let [x, a, b, below] = [leaf(&[5, 4]), leaf(&[3, 4]), leaf(&[2, 4]), leaf(&[4, 4])];
    let stacked = Stacked::new(vec![a.shallow_clone(), b.shallow_clone()]);
    let told = Arc::new(Mutex::new(vec![]));
    let hook = |name: &'static str, weight: &Tensor| {
        let (told, weight) = (told.clone(), weight.shallow_clone());
        let grad = move || weight.grad().abs().sum(Kind::Double).double_value(&[]);
        let tell = move || {
            told.lock().unwrap().push((name, grad() > 0.0));
            Ok(())
        };
        (tell, name)
    };
    let hooks = [("a", &a), ("b", &b), ("below", &below)]
        .map(|(name, weight)| autograd::on_grad_ready(weight, hook(name, weight).0).unwrap());
    for _ in 0..2 {
        // The second pass uses the stack that the first one made.
        let out = stacked.linear(x.matmul(&below)).unwrap();
        autograd::backward(&out.square().sum(Kind::Double)).unwrap();
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert_eq!(told, [("a", true), ("b", true), ("below", true)]);
    }
    drop(hooks);
}

#[test]
fn weights_are_stacked_once_for_all_passes_between_two_updates() {
    let (a, b) = (Tensor::randn([3, 4], F32), Tensor::randn([2, 4], F32));
    let [a, b] = [a, b].map(|t| t.set_requires_grad(true));
    let stacked = Stacked::new(vec![a.shallow_clone(), b.shallow_clone()]);
    let expected = || Tensor::cat(&[&a, &b], 0).detach().to_kind(Kind::BFloat16);

    // Asked for without history first, as in an evaluation before the first step.
    let first = tch::no_grad(|| stacked.get(Kind::BFloat16));
    assert_eq!(first.detach(), expected());
    for pass in 1..=3 {
        let stack = stacked.get(Kind::BFloat16);
        assert_eq!(stack.data_ptr(), first.data_ptr(), "pass {pass} has a copy of its own");
        let ones = Tensor::ones([1, 4], F32).to_kind(Kind::BFloat16);
        autograd::backward(&stacked.linear(&ones).unwrap().sum(Kind::BFloat16)).unwrap();
        for weight in [&a, &b] {
            assert_eq!(weight.grad(), weight.ones_like().detach() * pass); // in f32
        }
    }

    let zeros = || vec![a.detach().zeros_like(), b.detach().zeros_like()];
    let params = [a.shallow_clone(), b.shallow_clone()];
    let options = autograd::AdamW { lr: 0.5, betas: (0.9, 0.95), weight_decay: 0.0, eps: 1e-8 };
    let (before, grads) = (expected(), [a.grad(), b.grad()]);
    autograd::fused_adamw(&params, &grads, &zeros(), &zeros(), 1, options).unwrap();
    assert_ne!(expected(), before);
    assert_eq!(stacked.get(Kind::BFloat16).detach(), expected(), "after an update");
    tch::no_grad(|| a.shallow_clone().copy_(&a.ones_like()));
    assert_eq!(stacked.get(Kind::BFloat16).detach(), expected(), "after a copy");
    assert_eq!(stacked.get(Kind::Float).detach(), Tensor::cat(&[&a, &b], 0).detach());
}

#[test]
fn one_weight_in_its_own_dtype_needs_no_copy() {
    let weight = Tensor::randn([3, 4], F64).set_requires_grad(true);
    let stacked = Stacked::new(vec![weight.shallow_clone()]);
    assert_eq!(stacked.get(Kind::Double).data_ptr(), weight.data_ptr());
}

/// The gradients of `loss` by all of `inputs`.
fn grads<const N: usize>(loss: Tensor, inputs: [&Tensor; N]) -> Vec<Tensor> {
    Tensor::run_backward(&[loss], &inputs, false, false)
}

#[track_caller]
fn assert_close(ours: &[Tensor], theirs: &[Tensor]) {
    assert_eq!(ours.len(), theirs.len());
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        // Sums of up to some hundred terms in f64, in another order.
        assert!(a.allclose(b, 1e-12, 1e-12, false), "tensor {i}: {a} {b}");
    }
}

#[test]
fn swiglu_of_two_weights_is_its_formula() {
    let [x, w, v] = [leaf(&[2, 5, 4]), leaf(&[6, 4]), leaf(&[6, 4])];
    let factor = Tensor::randn([2, 5, 6], F64);
    let loss = |out: Tensor| (out * &factor).sum(Kind::Double);
    let plain = x.matmul(&w.tr()).silu() * x.matmul(&v.tr());
    let expected = grads(loss(plain.shallow_clone()), [&x, &w, &v]);

    let stacked = Stacked::new(vec![w.shallow_clone(), v.shallow_clone()]);
    let out = stacked.swiglu(&x).unwrap();
    assert_close(&[out.detach()], &[plain.detach()]);
    autograd::backward(&loss(out)).unwrap();
    assert_close(&[x.grad(), w.grad(), v.grad()], &expected);
}

/// What an input does with its gradient begins before the weights' gradients are computed, and ends
/// after them; what it returns goes on.
#[test]
fn an_input_takes_its_gradient_before_the_weights_have_theirs() {
    let [x, w] = [leaf(&[2, 5, 4]), leaf(&[3, 4])];
    let stacked = Stacked::new(vec![w.shallow_clone()]);
    let factor = Tensor::randn([2, 5, 3], F64);
    let loss = |out: Tensor| (out * &factor).sum(Kind::Double);
    let expected = grads(loss(x.matmul(&w.tr())), [&x, &w]);

    let told = Arc::new(Mutex::new(vec![]));
    let (log, weight) = (told.clone(), w.shallow_clone());
    let input = Input::with_grad(&x, move |grad| {
        let (log, weight) = (log.clone(), weight.shallow_clone());
        log.lock().unwrap().push(("start", weight.grad().defined()));
        Ok(move || {
            log.lock().unwrap().push(("finish", weight.grad().defined()));
            Ok(grad * 2)
        })
    });
    autograd::backward(&loss(stacked.linear(input).unwrap())).unwrap();
    assert_eq!(*told.lock().unwrap(), [("start", false), ("finish", true)]);
    assert_close(&[x.grad(), w.grad()], &[&expected[0] * 2, expected[1].shallow_clone()]);
}

#[test]
fn a_rotation_turns_pairs_by_its_angles_and_gradients_back() {
    let angles = Tensor::randn([7, 3], F64) * 3;
    let rotation = Rotation::new(&angles, Kind::Double, Device::Cpu).first(5);
    let (x, factor) = (leaf(&[2, 5, 2, 6]), Tensor::randn([2, 5, 2, 6], F64));
    let loss = |out: &Tensor| (out * &factor).sum(Kind::Double);

    let angles = angles.narrow(0, 0, 5).unsqueeze(1); // [5, 1, 3]
    let (a, b) = (x.narrow(-1, 0, 3), x.narrow(-1, 3, 3));
    let (first, second) =
        (&a * angles.cos() - &b * angles.sin(), &b * angles.cos() + &a * angles.sin());
    let plain = Tensor::cat(&[first, second], -1);
    let rotated = rotation.apply(&x).unwrap();
    assert_close(&[rotated.detach()], &[plain.detach()]);
    assert_close(&grads(loss(&rotated), [&x]), &grads(loss(&plain), [&x]));
}

#[test]
fn head_and_loss_in_chunks_are_the_cross_entropy_of_all_logits() {
    // 13 × 50 tokens: a chunk of 512 and one of 138. Logits of a few hundred would overflow exp.
    let [x, weight] = [leaf(&[13, 50, 4]), leaf(&[9, 4])];
    let x = (&x * 100.0).detach().set_requires_grad(true);
    let targets = Tensor::randint(9, [13, 50], (Kind::Int64, Device::Cpu));
    let logits = x.matmul(&weight.tr()); // [13, 50, 9]
    let picked = logits.log_softmax(-1, Kind::Double).gather(2, &targets.unsqueeze(2), false);
    let plain = picked.neg().sum(Kind::Double) * 0.25;
    let loss = autograd::linear_cross_entropy(&x, &weight, &targets).unwrap();
    assert_close(&[loss.detach() * 0.25], &[plain.detach()]);
    assert_close(&grads(loss * 0.25, [&x, &weight]), &grads(plain, [&x, &weight]));
}
