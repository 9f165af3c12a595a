//! The training loop: micro-batches in, one update out.

use anyhow::Result;
use checkpoint::Weights;
use cli::{report_options, sampling};
use data::{Batches, Dataset, MicroBatch};
use report::{Reporter, StepStats, Trace, Track};
use std::sync::Arc;
use tch::Tensor;

use crate::config::Config;
use crate::model::Llama;
use crate::optimizer::{Optimizer, clip_grads, grad_norm, learning_rate};
use crate::text::batches;

/// What a rank needs for its updates.
pub struct Trainer {
    /// The model, or the part of it that this rank holds.
    pub model: Llama,
    optimizer: Optimizer,
    batches: Batches,
    config: Config,
    trace: Trace,
    /// Updates made so far.
    step: usize,
}

impl Trainer {
    /// A trainer with initial weights, ready for the first step.
    pub fn new(config: &Config, text: &Arc<Dataset>, trace: Trace) -> Result<Self> {
        let (kind, device) = (config.run.weights_kind(), config.run.device());
        let weights = match &config.hf_model {
            Some(dir) => Weights::open(dir, kind, device)?,
            None => Weights::seeded(config.train.seed, &config.model, kind, device),
        };
        let model = Llama::new(&config.model, &weights, config.run.kind(), device)?;
        let optimizer = Optimizer::new(model.parameters(), config.train.weight_decay);
        let batches = batches(config, text, 0, 1)?;
        Ok(Self { model, optimizer, batches, config: config.clone(), trace, step: 0 })
    }

    /// One optimiser step over the next global batch.
    pub fn step(&mut self) -> Result<StepStats> {
        self.update(&self.batches.step(self.step)?)
    }

    /// One optimiser step over these micro-batches. Loss and gradient norm are from
    /// before the update.
    pub fn update(&mut self, micro_batches: &[MicroBatch]) -> Result<StepStats> {
        let Config { data, train, run, .. } = &self.config;
        // Every loss is divided by the tokens of the whole global batch, so
        // gradients simply add up.
        let target_tokens = (train.global_batch * data.seq_len) as f64;
        let parameters = self.model.parameters();
        for parameter in parameters {
            autograd::clear_grad(&parameter.tensor)?;
        }

        let mut loss = Tensor::zeros([], (run.weights_kind(), run.device()));
        for micro_batch in micro_batches {
            loss += self.forward_backward(micro_batch, target_tokens)?;
        }

        let grads: Vec<Tensor> = parameters.iter().map(|p| p.tensor.grad()).collect();
        let norm = grad_norm(&grads)?;
        clip_grads(&grads, &norm, train.clip)?;
        let lr = learning_rate(train, self.step);
        {
            let _span = self.trace.span(Track::Compute, "optimizer");
            self.optimizer.step(lr)?;
        }
        self.step += 1;
        let (loss, grad_norm) = (loss.double_value(&[]), norm.double_value(&[]));
        Ok(StepStats { step: self.step, loss, grad_norm, lr, ..Default::default() })
    }

    /// Adds one micro-batch's gradients to `.grad`, and returns its part of the loss.
    fn forward_backward(&self, micro_batch: &MicroBatch, target_tokens: f64) -> Result<Tensor> {
        let loss = {
            let _span = self.trace.span(Track::Compute, "forward");
            self.model.loss(&micro_batch.inputs, &micro_batch.targets)? / target_tokens
        };
        let _span = self.trace.span(Track::Compute, "backward");
        autograd::backward(&loss)?;
        Ok(loss.detach())
    }
}

/// Trains as `config` says, reports progress, and ends with a sample.
pub fn run(config: &Config, text: &Arc<Dataset>) -> Result<()> {
    let trace =
        if config.run.trace.is_some() { Trace::new(0, "one device".into()) } else { Trace::off() };
    let mut trainer = Trainer::new(config, text, trace.clone())?;
    let mut reporter = Reporter::new(report_options(config, true))?;
    for _ in 0..config.train.steps {
        let stats = trainer.step()?;
        reporter.step(&stats)?;
    }
    reporter.finish()?;
    if let Some(path) = &config.run.trace {
        report::write_trace(path, &[trace.export()])?;
    }
    sampling(config).print(true, |tokens, last| trainer.model.next_token(tokens, last))
}
