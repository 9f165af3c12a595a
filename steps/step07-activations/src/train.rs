//! The training loop: micro-batches in, one update out.

use anyhow::{Context, Result};
use checkpoint::Weights;
use cli::{progress, report_options, sampling};
use comm::Mesh;
use data::{Batches, MicroBatch};
use report::{Reporter, StepStats, Track, Validation};
use std::path::Path;
use tch::Tensor;

use crate::config::Config;
use crate::context_parallel::ContextParallel;
use crate::data_parallel::DataParallel;
use crate::held_out::{self, Texts};
use crate::model::Llama;
use crate::optimizer::{Optimizer, clip_grads, grad_norm, learning_rate};
use crate::pipeline_parallel::PipelineParallel;
use crate::schedule::stages;
use crate::tensor_parallel::TensorParallel;
use crate::text::batches;
use crate::{hugging_face, memory, sharded_checkpoint};

/// What a rank needs for its updates.
pub struct Trainer<'a> {
    /// The model, or the part of it that this rank holds.
    pub model: Llama,
    cp: ContextParallel,
    pipeline: PipelineParallel,
    data_parallel: DataParallel,
    optimizer: Optimizer,
    batches: Batches,
    eval_batches: Option<Batches>,
    config: Config,
    mesh: &'a Mesh,
    /// Updates made so far, including those before a checkpoint.
    pub step: usize,
}

impl<'a> Trainer<'a> {
    /// A trainer with initial weights, or restored from the checkpoint that `config` names.
    pub fn new(config: &Config, texts: &Texts, mesh: &'a Mesh) -> Result<Self> {
        let (kind, device) = (config.run.weights_kind(), config.run.device());
        let weights = match &config.hf_model {
            Some(dir) => Weights::open(dir, kind, device)?,
            None => Weights::seeded(config.train.seed, &config.model, kind, device),
        };
        let tp = TensorParallel::new(config, mesh);
        let cp = ContextParallel::new(config, mesh);
        let stages = stages(&config.model, config.data.seq_len, mesh.layout.pp);
        let stage = stages[mesh.coords.pp].clone();
        let mut model =
            Llama::new(&config.model, &weights, config.run.kind(), device, &tp, &cp, stage)?;
        model.recompute = config.activations.recompute;
        let pipeline = PipelineParallel::new(config, mesh);
        let data_parallel = DataParallel::new(model.parameters(), &mesh.dp_cp, &config.parallel)?;
        let mut optimizer = Optimizer::new(model.parameters(), config.train.weight_decay);
        let text = &texts.training;
        let batches = batches(config, text, mesh.coords.dp, mesh.layout.dp)?;
        let eval_batches = held_out::batches(config, texts, mesh.coords.dp, mesh.layout.dp)?;
        let step = match &config.checkpoints.resume {
            Some(dir) => {
                let parameters = model.parameters();
                sharded_checkpoint::resume(dir, parameters, &mut optimizer, config, text, mesh)?
            }
            None => 0,
        };
        let config = config.clone();
        Ok(Self {
            model,
            cp,
            pipeline,
            data_parallel,
            optimizer,
            batches,
            eval_batches,
            config,
            mesh,
            step,
        })
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

        let shards: Vec<MicroBatch> = micro_batches.iter().map(|m| self.cp.shard(m)).collect();
        let loss = self.pipeline.run(&self.model, &shards, target_tokens, |is_last| {
            self.data_parallel.before_backward(is_last)
        })?;
        self.data_parallel.finish()?;
        self.model.tp.sum_partial_grads(parameters)?;
        self.pipeline.sum_partial_grads(parameters)?;
        self.mesh.pp.all_reduce(&loss)?; // zero on all stages but the last
        self.mesh.dp_cp.all_reduce(&loss)?;

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

    /// The loss on held-out text, as a mean over its tokens. Each sample counts once, even if
    /// there are fewer than `eval_batches` asks for.
    pub fn evaluate(&self) -> Result<Validation> {
        let batches = self.eval_batches.as_ref().context("there is no held-out text")?;
        let samples = batches.samples_in(self.config.evaluation.eval_batches);
        let target_tokens = samples * self.config.data.seq_len;
        let micro_batches = batches.once(samples)?; // perhaps none
        let shards: Vec<MicroBatch> = micro_batches.iter().map(|m| self.cp.shard(m)).collect();
        let loss = self.pipeline.evaluate(&self.model, &shards, target_tokens as f64)?;
        self.mesh.pp.all_reduce(&loss)?;
        self.mesh.dp_cp.all_reduce(&loss)?;
        Ok(Validation { loss: loss.double_value(&[]), samples })
    }

    /// Writes a checkpoint of the updates made so far.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let (parameters, optimizer) = (self.model.parameters(), &self.optimizer);
        let progress = progress(&self.config, self.batches.dataset(), self.step);
        sharded_checkpoint::save(dir, progress, parameters, optimizer, &self.config, self.mesh)
    }

    /// Logits for the token after position `last`: `[vocab]`, the same on every rank of a replica.
    /// `tokens`: `[1, seq]`.
    pub fn next_token(&self, tokens: &Tensor, last: i64) -> Result<Tensor> {
        let tokens = self.cp.shard_tokens(tokens); // [1, seq/cp]
        let logits = self.pipeline.next_token(&self.model, &tokens, last)?;
        self.mesh.cp.all_reduce(&logits)?; // zeros, except on the cp rank that has this position
        Ok(logits)
    }
}

/// Trains as `config` says, reports progress, and ends with a sample.
pub fn run(config: &Config, texts: &Texts, mesh: &Mesh) -> Result<()> {
    let drawn = config.activations.memory.as_deref();
    drawn.map_or(Ok(()), |_| autograd::observe_memory())?; // from the first weight on
    let mut trainer = Trainer::new(config, texts, mesh)?;
    let (train, save, start) = (&config.train, &config.checkpoints.save, trainer.step);
    let mut reporter =
        Reporter::new(report::Options { start, ..report_options(config, mesh.is_leader()) })?;
    for step in start + 1..=train.steps {
        let is_due =
            |every: Option<usize>| every.is_some_and(|n| step % n == 0 || step == train.steps);
        let stats = match drawn {
            Some(path) if step == train.steps => memory::drawn(path, mesh, || trainer.step())?,
            _ => trainer.step()?,
        };
        if is_due(config.evaluation.eval_every) {
            reporter.validate(|| trainer.evaluate())?;
        }
        reporter.step(&stats)?;
        if step < train.steps && mesh.ends_early()? {
            break; // a signal said so; what has been learnt is saved below
        }
        if let Some(dir) = save
            && is_due(config.checkpoints.save_every)
            && step < train.steps
        {
            reporter.untimed(|| trainer.save(dir))?;
        }
    }
    if start == train.steps && config.evaluation.eval_every.is_some() {
        reporter.validate(|| trainer.evaluate())?; // no steps to make: the model is only used
    }
    if let Some(dir) = save {
        trainer.save(dir)?; // also after no steps: saving under another layout reshards a checkpoint
    }
    reporter.finish()?;
    let is_whole = trainer.step == train.steps; // if not: a signal came, and time is short
    if let Some(dir) = &config.checkpoints.export_hf
        && is_whole
    {
        hugging_face::export(dir, trainer.model.parameters(), config, mesh)?;
    }
    if let Some(path) = &config.run.trace {
        mesh.write_trace(path)?;
    }
    if mesh.coords.dp == 0 && is_whole {
        sampling(config)
            .print(mesh.is_leader(), |tokens, last| trainer.next_token(tokens, last))?;
    }
    Ok(())
}
