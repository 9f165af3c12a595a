//! Sequence parallelism: f as an all-gather, g as a reduce-scatter.

use crate::check::{Expected, check, check_bytes};
use crate::model::numbers;
use crate::worlds::{PATIENCE, place, world};
use anyhow::Result;
use comm::{Group, Layout};
use launch::Launch;
use std::sync::{Arc, Mutex};
use tch::{Kind, Tensor};

/// The two functions to be written.
#[derive(Clone, Copy)]
pub struct Operators {
    /// f: `[batch, seq/tp, hidden]` to `[batch, seq, hidden]`.
    pub gather: fn(&Group, &Tensor) -> Result<Tensor>,
    /// g: `[batch, seq, hidden]` to `[batch, seq/tp, hidden]`.
    pub reduce_scatter: fn(&Group, &Tensor) -> Result<Tensor>,
}

const ALL: [i64; 3] = [2, 8, 3]; // [batch, seq, hidden]

fn ranks(tp: usize) -> Layout {
    Layout { tp, ..Layout::default() }
}

/// The tokens of a rank.
fn own(all: &Tensor, rank: usize, tp: usize) -> Tensor {
    let rows = all.size()[1] / tp as i64;
    all.narrow(1, rows * rank as i64, rows).contiguous()
}

fn sum(tp: usize, of: impl Fn(usize) -> Tensor) -> Tensor {
    (1..tp).fold(of(0).copy(), |sum, rank| sum + of(rank))
}

/// f's forward pass.
pub fn f_gathers_the_tokens_of_all_ranks(operators: Operators) {
    for tp in [1, 2, 4] {
        let outcomes = world(ranks(tp), move |mesh| {
            let x = own(&numbers(1, &ALL), mesh.rank, tp).set_requires_grad(true);
            let all = (operators.gather)(&mesh.tp, &x)?.detach();
            Ok((place(mesh.layout, mesh.coords), all, mesh.tp.bytes_sent()))
        });
        for (place, got, sent) in &outcomes {
            let of = Expected { what: "all tokens behind f", place, from: "the whole tensor" };
            check(&of, &numbers(1, &ALL), got);
            let expected = (tp as u64 - 1) * 48 / tp as u64 * 8;
            check_bytes("f forward", place, expected, *sent);
        }
    }
}

/// f's backward pass.
pub fn the_gradient_of_f_is_summed_and_scattered(operators: Operators) {
    for tp in [1, 2, 4] {
        let grad = |rank: usize| numbers(5 + rank as i64, &ALL);
        let outcomes = world(ranks(tp), move |mesh| {
            let x = own(&numbers(1, &ALL), mesh.rank, tp).set_requires_grad(true);
            let all = (operators.gather)(&mesh.tp, &x)?;
            let before = mesh.tp.bytes_sent();
            autograd::backward_with(&all, &grad(mesh.rank))?;
            let sent = mesh.tp.bytes_sent() - before;
            Ok((place(mesh.layout, mesh.coords), x.grad(), sent))
        });
        for (rank, (place, got, sent)) in outcomes.iter().enumerate() {
            let from = "the sum of the ranks' gradients, of its tokens";
            let of = Expected { what: "the gradient of f's input", place, from };
            check(&of, &own(&sum(tp, grad), rank, tp), got);
            let expected = (tp as u64 - 1) * 48 / tp as u64 * 8;
            check_bytes("f backward", place, expected, *sent);
        }
    }
}

/// g's forward pass.
pub fn g_leaves_each_rank_the_sum_of_its_tokens(operators: Operators) {
    for tp in [1, 2, 4] {
        let partial = |rank: usize| numbers(5 + rank as i64, &ALL);
        let outcomes = world(ranks(tp), move |mesh| {
            let partial = partial(mesh.rank).set_requires_grad(true);
            let own = (operators.reduce_scatter)(&mesh.tp, &(partial * 1.0))?.detach();
            Ok((place(mesh.layout, mesh.coords), own, mesh.tp.bytes_sent()))
        });
        for (rank, (place, got, sent)) in outcomes.iter().enumerate() {
            let of = Expected { what: "its tokens behind g", place, from: "the plain sum" };
            check(&of, &own(&sum(tp, partial), rank, tp), got);
            let expected = (tp as u64 - 1) * 48 / tp as u64 * 8;
            check_bytes("g forward", place, expected, *sent);
        }
    }
}

/// g's backward pass.
pub fn the_gradient_of_g_is_that_of_all_tokens(operators: Operators) {
    for tp in [1, 2, 4] {
        let outcomes = world(ranks(tp), move |mesh| {
            let partial = numbers(5, &ALL).set_requires_grad(true);
            let behind = (operators.reduce_scatter)(&mesh.tp, &(&partial * 1.0))?;
            let before = mesh.tp.bytes_sent();
            autograd::backward_with(&behind, &own(&numbers(9, &ALL), mesh.rank, tp))?;
            let sent = mesh.tp.bytes_sent() - before;
            Ok((place(mesh.layout, mesh.coords), partial.grad(), sent))
        });
        for (place, got, sent) in &outcomes {
            let from = "the gradients of all ranks' tokens";
            let of = Expected { what: "the gradient of g's input", place, from };
            check(&of, &numbers(9, &ALL), got);
            let expected = (tp as u64 - 1) * 48 / tp as u64 * 8;
            check_bytes("g backward", place, expected, *sent);
        }
    }
}

/// f, a column-parallel and a row-parallel matrix, g: what one device computes of them.
pub fn a_layer_between_them_is_that_of_one_device(operators: Operators) {
    let tp = 2;
    let weights = || (numbers(20, &[4, 3]), numbers(21, &[3, 4])); // up and down
    let outcomes = world(ranks(tp), move |mesh| {
        let (up, down) = weights();
        let up = up.narrow(0, 2 * mesh.rank as i64, 2);
        let down = down.narrow(1, 2 * mesh.rank as i64, 2);
        let x = own(&numbers(1, &ALL), mesh.rank, tp).set_requires_grad(true);
        let all = (operators.gather)(&mesh.tp, &x)?;
        let partial = all.matmul(&up.tr()).silu().matmul(&down.tr());
        let y = (operators.reduce_scatter)(&mesh.tp, &partial)?;
        autograd::backward_with(&y, &own(&numbers(9, &ALL), mesh.rank, tp))?;
        Ok((place(mesh.layout, mesh.coords), y.detach(), x.grad()))
    });
    let (up, down) = weights();
    let x = numbers(1, &ALL).set_requires_grad(true);
    let y = x.matmul(&up.tr()).silu().matmul(&down.tr());
    (&y * numbers(9, &ALL)).sum(Kind::Double).backward();
    for (rank, (place, got, grad)) in outcomes.iter().enumerate() {
        let of = |what| Expected { what, place, from: "one device" };
        check(&of("the layer's output"), &own(&y.detach(), rank, tp), got);
        check(&of("the gradient of the layer's input"), &own(&x.grad(), rank, tp), grad);
    }
}

/// A sequence that the ranks do not divide, and a group that fails.
pub fn what_cannot_be_is_refused(operators: Operators) {
    let launch = Launch { layout: ranks(2), timeout: PATIENCE, ..Launch::default() };
    let refused = |test: fn(Operators, &Group) -> Result<Option<String>>| -> Vec<Option<String>> {
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let told = seen.clone();
        let _ = launch::launch(&launch, move |mesh| {
            let outcome = test(operators, &mesh.tp)?;
            told.lock().unwrap_or_else(|e| e.into_inner()).push(outcome);
            Ok(())
        });
        std::mem::take(&mut *seen.lock().unwrap_or_else(|e| e.into_inner()))
    };
    let uneven = refused(|operators, group| {
        let partial = numbers(1, &[2, 7, 3]);
        Ok((operators.reduce_scatter)(group, &partial).err().map(|error| format!("{error:#}")))
    });
    assert!(!uneven.is_empty(), "g panics where two ranks cannot share 7 tokens");
    for sentence in uneven {
        let sentence = sentence.expect("two ranks cannot share 7 tokens, and g does not say so");
        let names = sentence.contains('7') && sentence.contains('2');
        assert!(names, "the sentence must name the 2 ranks and the 7 tokens: {sentence}");
    }
    let complex = refused(|operators, group| {
        let partial = numbers(1, &ALL).to_kind(Kind::ComplexDouble);
        Ok((operators.reduce_scatter)(group, &partial).err().map(|error| error.to_string()))
    });
    assert!(!complex.is_empty(), "g panics where the group cannot sum");
    for sentence in complex {
        assert!(sentence.is_some(), "the group cannot sum, and g says that all is well");
    }
}
