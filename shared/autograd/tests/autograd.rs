//! Gradient checks by finite differences in f64, and who owns what when.

use anyhow::bail;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tch::{Device, Kind, Tensor, no_grad};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn leaf(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, F64).set_requires_grad(true)
}

/// x·y elementwise, with a backward function of our own.
fn product(x: &Tensor, y: &Tensor) -> Tensor {
    let out = no_grad(|| x * y);
    let (a, b) = (x.detach(), y.detach());
    autograd::custom([x, y], &out, move |grad| Ok([grad * &b, grad * &a])).unwrap()
}

/// Compares the gradients of `f` at `inputs` with central differences.
/// In f64 with h = 1e-5 the difference quotient errs by about h² ≈ 1e-10 plus 1e-16/h ≈ 1e-11.
fn gradient_check(f: impl Fn(&[Tensor]) -> Tensor, inputs: &[Tensor]) {
    f(inputs).sum(Kind::Double).backward();
    let h = 1e-5;
    for input in inputs {
        let grad = input.grad().flatten(0, -1);
        let flat = input.detach().view(-1); // shares memory with the leaf
        for i in 0..flat.size()[0] {
            let at = |delta: f64| {
                let _ = flat.get(i).g_add_scalar_(delta);
                let value = no_grad(|| f(inputs).sum(Kind::Double)).double_value(&[]);
                let _ = flat.get(i).g_add_scalar_(-delta);
                value
            };
            let quotient = (at(h) - at(-h)) / (2.0 * h);
            approx::assert_relative_eq!(
                grad.double_value(&[i]),
                quotient,
                epsilon = 1e-8,
                max_relative = 1e-8
            );
        }
    }
}

#[test]
fn custom_backward_passes_the_gradient_check() {
    gradient_check(|t| product(&t[0], &t[1]), &[leaf(&[3, 4]), leaf(&[3, 4])]);
    // Inside a larger graph, used twice, and with operations of libtorch on both sides.
    gradient_check(
        |t| product(&t[0].sin(), &product(&t[0], &t[1])).exp(),
        &[leaf(&[2, 3]), leaf(&[2, 3])],
    );
}

#[test]
fn an_input_without_gradient_gets_none_and_no_history_is_made_without_need() {
    let (x, y) = (leaf(&[3]), Tensor::randn([3], F64));
    product(&x, &y).sum(Kind::Double).backward();
    assert!(x.grad().defined() && !y.grad().defined());
    assert!(!product(&y, &y).requires_grad());
    assert!(!no_grad(|| product(&x, &x)).requires_grad());
}

/// Counts how often it is alive.
struct Alive(Arc<AtomicUsize>);
impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count.clone())
    }
}
impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[test]
fn the_closure_runs_once_a_pass_and_is_freed_after_it() {
    let (alive, runs) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let x = leaf(&[4]);
    let build = || {
        let (token, runs) = (Alive::new(&alive), runs.clone());
        let out = no_grad(|| &x * 2.0);
        autograd::custom([&x], &out, move |grad| {
            let _ = &token;
            runs.fetch_add(1, SeqCst);
            Ok([grad * 2.0])
        })
        .unwrap()
    };
    for step in 1..=50 {
        let y = build();
        // Two uses of y are summed before the node runs.
        (&y + &y).sum(Kind::Double).backward();
        assert_eq!(runs.load(SeqCst), step);
        // The graph still exists (y holds it), yet what was saved is gone.
        assert_eq!(alive.load(SeqCst), 0);
        drop(y);
    }
    // A graph that never sees a backward pass is freed with its output.
    drop(build());
    assert_eq!(alive.load(SeqCst), 0);
    // And where no gradient is wanted, nothing is kept at all.
    let _untracked = no_grad(build);
    assert_eq!(alive.load(SeqCst), 0);
}

#[test]
fn a_kept_graph_can_run_twice_and_a_freed_one_says_so() {
    let x = leaf(&[3]);
    let y = product(&x, &x).sum(Kind::Double);
    let keep = Tensor::run_backward(&[&y], &[&x], true, false);
    let again = Tensor::run_backward(&[&y], &[&x], false, false);
    assert_eq!(keep[0], again[0]);
    let error = Tensor::f_run_backward(&[&y], &[&x], false, false).unwrap_err();
    assert!(error.to_string().contains("second time"), "{error}");
}

#[test]
fn errors_panics_and_wrong_shapes_become_errors_of_the_backward_pass() {
    let x = leaf(&[3]);
    let fails = |backward: fn(&Tensor) -> anyhow::Result<[Tensor; 1]>| {
        let out = no_grad(|| x.shallow_clone());
        let y = autograd::custom([&x], &out, backward).unwrap();
        y.sum(Kind::Double).f_backward().unwrap_err().to_string()
    };
    assert!(fails(|_| bail!("rank 3 is gone")).contains("rank 3 is gone"));
    assert!(fails(|_| panic!("boom {}", 7)).contains("boom 7"));
    assert!(fails(|g| Ok([g.repeat([2])])).contains("invalid gradient"));
    // The thread is whole: the next pass works.
    product(&x, &x).sum(Kind::Double).backward();
}

/// A closure need not be `Sync`, and what it saved is freed after a pass.
#[test]
fn passes_of_two_threads_take_turns_in_a_node_that_they_share() {
    let x = leaf(&[3]);
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let trunk = {
        let (inside, most) = (inside.clone(), most.clone());
        autograd::custom([&x], &no_grad(|| &x * 2.0), move |grad| {
            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(100));
            inside.fetch_sub(1, SeqCst);
            Ok([grad * 2.0])
        })
        .unwrap()
    };
    let start = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for head in [&trunk * 3.0, &trunk * 5.0] {
            let (x, start) = (x.shallow_clone(), &start);
            scope.spawn(move || {
                start.wait();
                let loss = head.sum(Kind::Double);
                Tensor::run_backward(&[&loss], &[&x], true, false)
            });
        }
    });
    assert_eq!(most.load(SeqCst), 1);
}

#[test]
fn many_threads_run_backward_passes_side_by_side() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| gradient_check(|t| product(&t[0], &t[1]), &[leaf(&[5]), leaf(&[5])]));
        }
    });
}

#[test]
fn gradients_accumulate_in_the_tensor_they_are_given() {
    let w = leaf(&[2, 3]);
    let bucket = Tensor::zeros([10], F64);
    autograd::set_grad(&w, &bucket.narrow(0, 2, 6).view([2, 3])).unwrap();
    for _ in 0..2 {
        (&w * 3.0).sum(Kind::Double).backward();
    }
    assert_eq!(Vec::<f64>::try_from(&bucket).unwrap(), [0., 0., 6., 6., 6., 6., 6., 6., 0., 0.]);
    assert!(autograd::set_grad(&w, &Tensor::zeros([6], F64)).is_err());
}

#[test]
fn fused_adamw_is_the_published_formula() {
    let (p, g) = (Tensor::randn([7], F64), Tensor::randn([7], F64));
    let (m, v) = (Tensor::zeros([7], F64), Tensor::zeros([7], F64));
    let mut expected: Vec<f64> = Vec::try_from(&p).unwrap();
    let grad: Vec<f64> = Vec::try_from(&g).unwrap();
    let (lr, b1, b2, wd, eps) = (1e-2, 0.9, 0.95, 0.1, 1e-8);
    let (mut m1, mut v1) = (vec![0.0; 7], vec![0.0; 7]);
    for step in 1..=3 {
        let options = autograd::AdamW { lr, betas: (b1, b2), weight_decay: wd, eps };
        let list = |t: &Tensor| vec![t.shallow_clone()];
        autograd::fused_adamw(&list(&p), &list(&g), &list(&m), &list(&v), step, options).unwrap();
        for i in 0..7 {
            m1[i] = b1 * m1[i] + (1.0 - b1) * grad[i];
            v1[i] = b2 * v1[i] + (1.0 - b2) * grad[i] * grad[i];
            let m_hat = m1[i] / (1.0 - b1.powi(step as i32));
            let v_hat: f64 = v1[i] / (1.0 - b2.powi(step as i32));
            expected[i] -= lr * wd * expected[i] + lr * m_hat / (v_hat.sqrt() + eps);
        }
    }
    // The kernel orders the same dozen f64 operations differently: a few units in the last place.
    for (got, want) in Vec::<f64>::try_from(&p).unwrap().iter().zip(&expected) {
        approx::assert_relative_eq!(got, want, max_relative = 1e-13);
    }
}

#[test]
fn norms_and_scale_act_on_every_tensor() {
    let tensors = [Tensor::from_slice(&[3.0, 4.0]), Tensor::from_slice(&[5.0, 12.0, 0.0])];
    assert_eq!(Vec::<f64>::try_from(autograd::norms(&tensors).unwrap()).unwrap(), [5.0, 13.0]);
    autograd::scale(&tensors, &Tensor::from(0.5)).unwrap();
    assert_eq!(Vec::<f64>::try_from(autograd::norms(&tensors).unwrap()).unwrap(), [2.5, 6.5]);
}

#[test]
fn a_backward_pass_can_begin_with_a_gradient_from_elsewhere() {
    let x = leaf(&[3, 4]);
    let grad = Tensor::randn([3, 4], F64);
    autograd::backward_with(&(&x * 3.0), &grad).unwrap();
    assert_eq!(x.grad(), &grad * 3.0);
    let error = autograd::backward_with(&(&x * 3.0), &Tensor::randn([2], F64)).unwrap_err();
    assert!(error.to_string().contains("shape"), "{error}");
}
