//! Hooks on gradients: when they fire, and who owns them.

use anyhow::bail;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn leaf(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, F64).set_requires_grad(true)
}

#[test]
fn a_hook_fires_once_a_pass_with_the_gradient_complete_and_not_after_it_is_dropped() {
    let w = leaf(&[3]);
    let (fired, alive) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
    let hook = {
        let (fired, token, w) = (fired.clone(), alive.clone(), w.shallow_clone());
        autograd::on_grad_ready(&w.shallow_clone(), move || {
            let _ = &token;
            let pass = fired.fetch_add(1, SeqCst) + 1;
            // Both uses of w have been added: 2 + 3, times the passes so far.
            assert_eq!(w.grad().double_value(&[0]), 5.0 * pass as f64);
            Ok(())
        })
        .unwrap()
    };
    for pass in 1..=3 {
        (&w * 2.0 + &w * 3.0).sum(Kind::Double).backward();
        assert_eq!(fired.load(SeqCst), pass);
    }
    drop(hook);
    assert_eq!(Arc::strong_count(&alive), 1, "the hook's closure outlived its handle");
    (&w * 2.0).sum(Kind::Double).backward();
    assert_eq!(fired.load(SeqCst), 3);
}

#[test]
fn a_failing_hook_ends_the_pass_and_a_hook_needs_a_leaf() {
    let w = leaf(&[3]);
    let _hook = autograd::on_grad_ready(&w, || bail!("the bucket is closed")).unwrap();
    let error = autograd::backward(&(&w * 2.0).sum(Kind::Double)).unwrap_err();
    assert_eq!(error.to_string(), "the bucket is closed");
    assert!(autograd::on_grad_ready(&(&w * 2.0), || Ok(())).is_err());
}

#[test]
fn a_second_hook_on_a_parameter_is_refused_and_the_first_stays() {
    let w = leaf(&[3]);
    let fired = Arc::new(AtomicUsize::new(0));
    let first = {
        let fired = fired.clone();
        autograd::on_grad_ready(&w, move || {
            fired.fetch_add(1, SeqCst);
            Ok(())
        })
    };
    let token = Arc::new(());
    let second = {
        let token = token.clone();
        autograd::on_grad_ready(&w, move || {
            let _ = &token;
            Ok(())
        })
    };
    let error = second.err().expect("there is one already").to_string();
    assert!(error.contains("has a gradient hook already"), "{error}");
    assert_eq!(Arc::strong_count(&token), 1, "what was refused is freed");
    autograd::backward(&(&w * 2.0).sum(Kind::Double)).unwrap();
    assert_eq!(fired.load(SeqCst), 1);
    drop(first);
    assert!(autograd::on_grad_ready(&w, || Ok(())).is_ok(), "its place is free again");
}

/// What a hook captures, and tells when it is freed.
struct Freed(Arc<AtomicUsize>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_hook_may_drop_its_own_handle() {
    let w = leaf(&[3]);
    let handle = Arc::new(Mutex::new(None));
    let freed = Arc::new(AtomicUsize::new(0));
    let hook = {
        let (handle, freed) = (handle.clone(), Freed(freed.clone()));
        autograd::on_grad_ready(&w, move || {
            let before = freed.0.clone();
            drop(handle.lock().unwrap().take());
            assert_eq!(before.load(SeqCst), 0, "freed while it runs");
            Ok(())
        })
    };
    *handle.lock().unwrap() = Some(hook.unwrap());
    autograd::backward(&(&w * 2.0).sum(Kind::Double)).unwrap();
    assert_eq!(freed.load(SeqCst), 1, "and not afterwards");
    autograd::backward(&(&w * 2.0).sum(Kind::Double)).unwrap();
}
