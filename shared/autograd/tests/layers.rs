//! What linear layers and SwiGLU are made of.

use autograd::Stacked;
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

#[test]
fn a_layout_by_feature_reaches_from_gate_and_up_to_the_gradient_of_their_product() {
    let x = Tensor::randn([2, 5, 4], F64).set_requires_grad(true);
    let weight = Tensor::randn([12, 4], F64).set_requires_grad(true);
    let down = Tensor::randn([4, 6], F64).set_requires_grad(true);
    let run = |product: fn(&Tensor, &Tensor) -> Tensor| {
        let both = product(&x, &weight); // [2, 5, 12]
        let between = autograd::swiglu(&both).unwrap(); // [2, 5, 6]
        let loss = autograd::linear(&between, &down).square().sum(Kind::Double);
        let of = [&between, &x, &weight, &down];
        (both.detach(), between.detach(), Tensor::run_backward(&[loss], &of, false, false))
    };
    let ((both, between, grads), (other, _, others)) =
        (run(autograd::linear_by_feature), run(autograd::linear));

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
        stack.sum(Kind::BFloat16).backward();
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
