//! The training loop: micro-batches in, one update out.

use anyhow::Result;
use checkpoint::Weights;
use cli::{report_options, sampling};
use comm::Mesh;
use data::{Batches, Dataset, MicroBatch};
use report::{Reporter, StepStats, Track};
use std::sync::Arc;
use tch::Tensor;

use crate::config::Config;
use crate::data_parallel::DataParallel;
use crate::model::Llama;
use crate::optimizer::{Optimizer, clip_grads, grad_norm, learning_rate};
use crate::pipeline_parallel::PipelineParallel;
use crate::schedule::stages;
use crate::tensor_parallel::TensorParallel;
use crate::text::batches;

/// What a rank needs for its updates.
pub struct Trainer<'a> {
    /// The model, or the part of it that this rank holds.
    pub model: Llama,
    pipeline: PipelineParallel,
    data_parallel: DataParallel,
    optimizer: Optimizer,
    batches: Batches,
    config: Config,
    mesh: &'a Mesh,
    /// Updates made so far.
    step: usize,
}

impl<'a> Trainer<'a> {
    /// A trainer with initial weights, ready for the first step.
    pub fn new(config: &Config, text: &Arc<Dataset>, mesh: &'a Mesh) -> Result<Self> {
        let (kind, device) = (config.run.weights_kind(), config.run.device());
        let weights = match &config.hf_model {
            Some(dir) => Weights::open(dir, kind, device)?,
            None => Weights::seeded(config.train.seed, &config.model, kind, device),
        };
        let tp = TensorParallel::new(config, mesh);
        let stages = stages(&config.model, config.data.seq_len, mesh.layout.pp);
        let stage = stages[mesh.coords.pp].clone();
        let model = Llama::new(&config.model, &weights, config.run.kind(), device, &tp, stage)?;
        let pipeline = PipelineParallel::new(config, mesh);
        let data_parallel = DataParallel::new(model.parameters(), &mesh.dp, &config.parallel)?;
        let optimizer = Optimizer::new(model.parameters(), config.train.weight_decay);
        let batches = batches(config, text, mesh.coords.dp, mesh.layout.dp)?;
        let config = config.clone();
        Ok(Self { model, pipeline, data_parallel, optimizer, batches, config, mesh, step: 0 })
    }

    /// One optimiser step over the next global batch.
    pub fn step(&mut self) -> Result<StepStats> {
        self.update(&self.batches.step(self.step)?)
    }

    /// One optimiser step over these micro-batches. Loss and gradient norm are from
    /// before the update.
    pub fn update(&mut self, micro_batches: &[MicroBatch]) -> Result<StepStats> {
        let Config { data, train, .. } = &self.config;
        // Every loss is divided by the tokens of the whole global batch, so
        // gradients simply add up.
        let target_tokens = (train.global_batch * data.seq_len) as f64;
        let parameters = self.model.parameters();
        let sent_before = self.mesh.comm_bytes();
        self.data_parallel.zero_grad()?;

        let loss = self.pipeline.run(&self.model, micro_batches, target_tokens, |is_last| {
            self.data_parallel.before_backward(is_last)
        })?;
        self.data_parallel.finish()?;
        self.pipeline.sum_partial_grads(parameters)?;
        self.mesh.pp.all_reduce(&loss)?; // zero on all stages but the last
        self.mesh.dp.all_reduce(&loss)?;

        let grads: Vec<Tensor> = parameters.iter().map(|p| p.tensor.grad()).collect();
        let norm = grad_norm(parameters, self.mesh)?;
        clip_grads(&grads, &norm, train.clip)?;
        let lr = learning_rate(train, self.step);
        {
            let _span = self.mesh.trace.span(Track::Compute, "optimizer");
            self.optimizer.step(lr)?;
        }
        self.step += 1;
        let (loss, grad_norm) = (loss.double_value(&[]), norm.double_value(&[]));
        let comm_bytes = self.mesh.comm_bytes() - sent_before;
        Ok(StepStats { step: self.step, loss, grad_norm, lr, comm_bytes })
    }

    /// Logits for the token after position `last`: `[vocab]`, the same on every rank of a replica.
    /// `tokens`: `[1, seq]`.
    pub fn next_token(&self, tokens: &Tensor, last: i64) -> Result<Tensor> {
        self.pipeline.next_token(&self.model, tokens, last)
    }
}

/// Trains as `config` says, reports progress, and ends with a sample.
pub fn run(config: &Config, text: &Arc<Dataset>, mesh: &Mesh) -> Result<()> {
    let mut trainer = Trainer::new(config, text, mesh)?;
    let mut reporter = Reporter::new(report_options(config, mesh.is_leader()))?;
    for step in 1..=config.train.steps {
        if step == config.train.steps {
            mesh.trace.start(); // for the chart
        }
        let stats = trainer.step()?;
        reporter.step(&stats)?;
    }
    reporter.finish()?;
    if let Some(path) = &config.run.trace {
        mesh.write_trace(path)?;
    }
    mesh.show_chart()?;
    if mesh.coords.dp == 0 {
        sampling(config)
            .print(mesh.is_leader(), |tokens, last| trainer.next_token(tokens, last))?;
    }
    Ok(())
}
