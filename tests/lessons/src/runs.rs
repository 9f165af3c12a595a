//! What training computes on one rank, held against what one device computes.

use crate::check::{Expected, check, check_number};
use anyhow::Result;
use checkpoint::Region;
use report::StepStats;
use tch::Tensor;

/// What a rank holds of a parameter after an update.
pub struct Held {
    /// Its Hugging Face name.
    pub name: String,
    /// The rank's part, and its gradient.
    pub weight: Tensor,
    /// As the update used it.
    pub grad: Tensor,
    /// Which part of the whole it should be.
    pub region: Region,
}

/// One update of one rank.
pub struct Update {
    /// What it reported.
    pub stats: StepStats,
    /// In the order of the forward pass.
    pub held: Vec<Held>,
}

/// The updates of one rank.
pub struct Updates {
    /// The rank, for messages.
    pub place: String,
    /// One after the other.
    pub updates: Vec<Update>,
}

impl Updates {
    /// Makes `count` updates with `update`, and keeps what `held` says after each.
    pub fn take(
        place: String,
        count: usize,
        mut update: impl FnMut() -> Result<(StepStats, Vec<Held>)>,
    ) -> Result<Self> {
        let mut updates = vec![];
        for _ in 0..count {
            let (stats, mut held) = update()?;
            for held in &mut held {
                (held.weight, held.grad) = (held.weight.detach().copy(), copy_of(&held.grad));
            }
            updates.push(Update { stats, held });
        }
        Ok(Self { place, updates })
    }
}

fn copy_of(tensor: &Tensor) -> Tensor {
    if tensor.defined() { tensor.copy() } else { Tensor::new() }
}

/// The loss of the first update, then of the others.
#[track_caller]
pub fn check_losses(reference: &Updates, ranks: &[Updates]) {
    each(reference, ranks, |step, place, one, this| {
        let what = format!("the loss of update {step}");
        let of = Expected { what: &what, place, from: "step01" };
        check_number(&of, one.stats.loss, this.stats.loss);
    });
}

/// The gradient norms, of the first update first.
#[track_caller]
pub fn check_norms(reference: &Updates, ranks: &[Updates]) {
    each(reference, ranks, |step, place, one, this| {
        let what = format!("the gradient norm of update {step}");
        let of = Expected { what: &what, place, from: "step01" };
        check_number(&of, one.stats.grad_norm, this.stats.grad_norm);
    });
}

/// Every gradient of the first update, from the last layer to the first: as the backward pass
/// comes to them.
#[track_caller]
pub fn check_grads(reference: &Updates, ranks: &[Updates]) {
    let first = |updates: &Updates| updates.updates[0].held.len();
    let most = ranks.iter().map(first).max().unwrap_or(0);
    for behind in 1..=most {
        for rank in ranks {
            let held = &rank.updates[0].held;
            if let Some(held) = held.len().checked_sub(behind).and_then(|i| held.get(i)) {
                let whole = &find(&reference.updates[0], &held.name).grad;
                let what = format!("the gradient of {}", held.name);
                let of = Expected { what: &what, place: &rank.place, from: "step01" };
                check(&of, &part(whole, &held.region), &held.grad);
            }
        }
    }
}

/// Every weight after every update.
#[track_caller]
pub fn check_weights(reference: &Updates, ranks: &[Updates]) {
    each(reference, ranks, |step, place, one, this| {
        for held in &this.held {
            let what = format!("after update {step}, the weight {}", held.name);
            let of = Expected { what: &what, place, from: "step01" };
            check(&of, &part(&find(one, &held.name).weight, &held.region), &held.weight);
        }
    });
}

/// Everything after every update: the weights first, which say the most.
#[track_caller]
pub fn check_all(reference: &Updates, ranks: &[Updates]) {
    check_weights(reference, ranks);
    check_losses(reference, ranks);
    check_norms(reference, ranks);
}

#[track_caller]
fn each(reference: &Updates, ranks: &[Updates], test: impl Fn(usize, &str, &Update, &Update)) {
    for (i, one) in reference.updates.iter().enumerate() {
        for rank in ranks {
            if let Some(this) = rank.updates.get(i) {
                test(i + 1, &rank.place, one, this);
            }
        }
    }
}

#[track_caller]
fn find<'a>(update: &'a Update, name: &str) -> &'a Held {
    let found = update.held.iter().find(|held| held.name == name);
    found.unwrap_or_else(|| panic!("step01 has no parameter {name}"))
}

/// The part `region` of a whole tensor.
fn part(whole: &Tensor, region: &Region) -> Tensor {
    let mut part = whole.shallow_clone();
    for (dim, (&start, &length)) in region.offsets.iter().zip(&region.extents).enumerate() {
        part = part.narrow(dim as i64, start, length);
    }
    part
}
