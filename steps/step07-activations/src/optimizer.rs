//! Clipping, AdamW and the learning-rate schedule.

use anyhow::Result;
use cli::TrainConfig;
use comm::Mesh;
use std::f64::consts::PI;
use tch::Tensor;

use crate::layers::Parameter;

const BETAS: (f64, f64) = (0.9, 0.95);
const EPS: f64 = 1e-8;

/// AdamW, with weight decay on those parameters that decay.
pub struct Optimizer {
    groups: [ParamGroup; 2],
    /// Updates made so far.
    step: i64,
}

struct ParamGroup {
    params: Vec<Tensor>,
    exp_avgs: Vec<Tensor>,
    exp_avg_sqs: Vec<Tensor>,
    weight_decay: f64,
}

impl Optimizer {
    /// With moments of zero, and no updates made.
    pub fn new(parameters: &[Parameter], weight_decay: f64) -> Self {
        let group = |decays: bool, weight_decay: f64| {
            let mine = parameters.iter().filter(|p| p.decays == decays);
            let params: Vec<Tensor> = mine.map(|p| p.tensor.shallow_clone()).collect();
            let zeros = || params.iter().map(|p| p.detach().zeros_like()).collect();
            ParamGroup { exp_avgs: zeros(), exp_avg_sqs: zeros(), params, weight_decay }
        };
        Self { groups: [group(true, weight_decay), group(false, 0.0)], step: 0 }
    }

    /// One update from the gradients in `.grad`.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        self.step += 1;
        for group in &self.groups {
            let grads: Vec<Tensor> = group.params.iter().map(Tensor::grad).collect();
            let options =
                autograd::AdamW { lr, betas: BETAS, weight_decay: group.weight_decay, eps: EPS };
            let ParamGroup { params, exp_avgs, exp_avg_sqs, .. } = group;
            autograd::fused_adamw(params, &grads, exp_avgs, exp_avg_sqs, self.step, options)?;
        }
        Ok(())
    }

    /// First and second moment of each parameter, in its shape and in the order of `parameters`.
    pub fn moments(&self, parameters: &[Parameter]) -> Vec<[Tensor; 2]> {
        let mut moments = self.groups.each_ref().map(|g| g.exp_avgs.iter().zip(&g.exp_avg_sqs));
        let next = |p: &Parameter| {
            let [decaying, others] = &mut moments;
            let group = if p.decays { decaying } else { others };
            let (exp_avg, exp_avg_sq) = group.next().expect("the optimiser was made for these");
            [exp_avg.shallow_clone(), exp_avg_sq.shallow_clone()]
        };
        parameters.iter().map(next).collect()
    }

    /// Sets the number of updates made, for the bias correction.
    pub fn set_step(&mut self, step: usize) {
        self.step = step as i64;
    }
}

/// Global 2-norm of all gradients: `[]`. Each rank counts only what it is the first to hold.
pub fn grad_norm(parameters: &[Parameter], mesh: &Mesh) -> Result<Tensor> {
    let mine = parameters.iter().filter(|p| p.is_first(mesh.coords));
    let grads: Vec<Tensor> = mine.map(|p| p.tensor.grad()).collect();
    let squares = autograd::norms(&grads)?.square().sum(None);
    mesh.tp.all_reduce(&squares)?;
    mesh.pp.all_reduce(&squares)?;
    Ok(squares.sqrt())
}

/// Scales the gradients down to norm `clip` if theirs, `norm` (`[]`), is larger; `clip` 0 turns
/// this off. The 1e-6 is that of PyTorch's `clip_grad_norm_`.
pub fn clip_grads(grads: &[Tensor], norm: &Tensor, clip: f64) -> Result<()> {
    if clip == 0.0 {
        return Ok(());
    }
    // No `if` on the norm: to read it, the host would have to wait for the GPU.
    let factor = (norm + 1e-6).reciprocal() * clip;
    autograd::scale(grads, &factor.clamp_max(1.0))
}

/// The learning rate of update `step` (from 0): a linear warm-up, then half a cosine down to
/// `min_lr`, where it stays.
pub fn learning_rate(train: &TrainConfig, step: usize) -> f64 {
    if step < train.warmup {
        return train.lr * (step + 1) as f64 / train.warmup as f64;
    }
    if step >= train.steps {
        return train.min_lr;
    }
    let progress = (step - train.warmup) as f64 / (train.steps - train.warmup) as f64;
    train.min_lr + (train.lr - train.min_lr) * 0.5 * (1.0 + (PI * progress).cos())
}
