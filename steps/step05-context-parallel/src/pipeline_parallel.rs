//! Pipeline parallelism: each stage holds some consecutive layers, and hands what it computes to the
//! next; gradients come back the same way. Micro-batches keep several stages busy at a time.

use anyhow::{Context, Result};
use checkpoint::LlamaConfig;
use cli::{Config, Schedule};
use comm::{Group, Mesh, Work};
use data::MicroBatch;
use report::{Trace, Track};
use std::collections::VecDeque;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

use crate::model::Llama;

/// One micro-batch through one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Forward(usize),
    Backward(usize),
}

/// The order of the passes on one of `stages` stages.
///
/// Forward passes run ahead of backward passes: all of them (AFAB; Huang et al., *GPipe*, 2019), or
/// just so many that the first gradient comes back when the stage needs it (1F1B; Fan et al.,
/// *DAPPLE*, 2021), if messages take no time. Then both take equally long, but the activations of
/// each pass ahead must be kept.
pub fn passes(schedule: Schedule, stage: usize, stages: usize, micro_batches: usize) -> Vec<Pass> {
    let ahead = match schedule {
        Schedule::AllForwardAllBackward => micro_batches,
        Schedule::OneForwardOneBackward => micro_batches.min(stages - stage),
    };
    let mut passes: Vec<Pass> = (0..ahead).map(Pass::Forward).collect();
    for i in 0..micro_batches {
        passes.push(Pass::Backward(i));
        if ahead + i < micro_batches {
            passes.push(Pass::Forward(ahead + i));
        }
    }
    passes
}

/// The layers of each stage. One after the other, layers go to the stage that has least to do, and
/// the last of those: it keeps fewer activations. Work is counted in multiplications a token, head
/// and embedding included.
pub fn stages(config: &LlamaConfig, seq_len: usize, stages: usize) -> Vec<Range<i64>> {
    let (hidden, head_dim) = (config.hidden_size, config.head_dim());
    let (q, kv) = (config.num_attention_heads * head_dim, config.kv_heads() * head_dim);
    let scores = q * seq_len as i64; // q·kᵀ and its product with v, half of each masked
    let layer = hidden * (2 * q + 2 * kv + 3 * config.intermediate_size) + scores;
    let mut work = vec![0; stages];
    work[0] += hidden; // the embedding looks one row up
    work[stages - 1] += hidden * config.vocab_size;
    let mut layers = vec![0; stages];
    for _ in 0..config.num_hidden_layers {
        let least = |&stage: &usize| (layers[stage] > 0, work[stage]); // none stays empty
        let stage = (0..stages).rev().min_by_key(least).expect("there is a stage");
        layers[stage] += 1;
        work[stage] += layer;
    }
    let mut next = 0;
    let range = |n: i64| {
        next += n;
        next - n..next
    };
    layers.into_iter().map(range).collect()
}

/// This rank's place in the pipeline.
pub struct Pipeline {
    group: Group,
    schedule: Schedule,
    /// What stages hand on: `[micro_batch, seq/cp, hidden]`.
    shape: [i64; 3],
    kind: Kind,
    loss_kind: Kind,
    device: Device,
    trace: Trace,
}

/// What one step leaves behind.
pub struct Outcome {
    /// The sum of the losses; zero on all stages but the last.
    pub loss: Tensor,
    /// The most micro-batches whose activations were kept at one time.
    pub peak_in_flight: usize,
}

impl Pipeline {
    pub fn new(config: &Config, mesh: &Mesh) -> Self {
        let (batch, seq) = (config.train.micro_batch, config.data.seq_len / mesh.layout.cp);
        Self {
            group: mesh.pp.clone(),
            schedule: config.parallel.schedule,
            shape: [batch as i64, seq as i64, config.model.hidden_size],
            kind: config.kind(),
            loss_kind: config.weights_kind(),
            device: config.device(),
            trace: mesh.trace.clone(),
        }
    }

    /// All passes of one step: adds up gradients in `.grad`. `target_tokens` divides the losses;
    /// `before_backward` hears, before each backward pass, whether it is the last.
    pub fn run(
        &self,
        model: &Llama,
        micro_batches: &[MicroBatch],
        target_tokens: f64,
        before_backward: impl Fn(bool),
    ) -> Result<Outcome> {
        let (stage, stages) = (self.group.rank(), self.group.size());
        let passes = passes(self.schedule, stage, stages, micro_batches.len());
        let loss = Tensor::zeros([], (self.loss_kind, self.device));
        let mut outcome = Outcome { loss, peak_in_flight: 0 };
        let mut in_flight: VecDeque<(Option<Tensor>, Tensor)> = VecDeque::new();
        let (mut sends, mut next) = (vec![], self.receive(passes.first(), self.shape));
        for (turn, &pass) in passes.iter().enumerate() {
            let received = next.map(Incoming::wait).transpose()?;
            // The next message travels while this pass computes; but not the first gradient, which may be
            // the answer to this very pass: a receive keeps a GPU busy, and the pass may need it idle.
            let ahead = passes.get(turn + 1);
            let answer = ahead == Some(&Pass::Backward(0));
            next = if answer { None } else { self.receive(ahead, self.shape) };
            match pass {
                Pass::Forward(i) => {
                    let _span = self.trace.span(Track::Compute, format!("forward {i}"));
                    let input = received.map(|x| x.set_requires_grad(true));
                    let x = model.forward(&micro_batches[i].inputs, input.as_ref())?;
                    let output = if self.is_last() {
                        let loss = model.loss(&x, &micro_batches[i].targets)? / target_tokens;
                        outcome.loss += loss.detach();
                        loss
                    } else {
                        sends.push(self.group.isend(&x.detach(), stage + 1));
                        x
                    };
                    in_flight.push_back((input, output));
                    outcome.peak_in_flight = outcome.peak_in_flight.max(in_flight.len());
                }
                Pass::Backward(i) => {
                    before_backward(i + 1 == micro_batches.len());
                    let _span = self.trace.span(Track::Compute, format!("backward {i}"));
                    let (input, output) = in_flight.pop_front().context("nothing in flight")?;
                    match received {
                        None => autograd::backward(&output)?,
                        Some(grad) => autograd::backward_with(&output, &grad)?,
                    }
                    if let Some(input) = input {
                        sends.push(self.group.isend(&input.grad(), stage - 1));
                    }
                }
            }
            if answer {
                next = self.receive(ahead, self.shape);
            }
        }
        sends.into_iter().try_for_each(Work::wait)?;
        Ok(outcome)
    }

    /// Starts to receive what a pass needs: nothing for the first stage's forward and the last
    /// stage's backward passes.
    fn receive(&self, pass: Option<&Pass>, shape: [i64; 3]) -> Option<Incoming> {
        let stage = self.group.rank();
        let from = match pass? {
            Pass::Forward(_) => stage.checked_sub(1)?,
            Pass::Backward(_) => (!self.is_last()).then_some(stage + 1)?,
        };
        let tensor = Tensor::empty(shape, (self.kind, self.device));
        let work = self.group.irecv(&tensor, from);
        Some(Incoming { tensor, work })
    }

    /// What the stage before sends forward, waited for; nothing on the first stage.
    fn received(&self, shape: [i64; 3]) -> Result<Option<Tensor>> {
        self.receive(Some(&Pass::Forward(0)), shape).map(Incoming::wait).transpose()
    }

    /// Scores for the token after position `last`: `[vocab]`, on all stages. `tokens`: `[1, seq/cp]`.
    pub fn next_token(&self, model: &Llama, tokens: &Tensor, last: i64) -> Result<Tensor> {
        let shape = [1, tokens.size()[1], self.shape[2]];
        let received = self.received(shape)?;
        let x = model.forward(tokens, received.as_ref())?; // [1, seq/cp, hidden]
        let scores = model.next_token(&x, last)?; // [vocab]; on all stages but the last, zeros
        if !self.is_last() {
            self.group.send(&x, self.group.rank() + 1)?;
        }
        self.group.broadcast(&scores, self.group.size() - 1)?;
        Ok(scores)
    }

    /// Sums a gradient over the first and the last stage, both of which hold its parameter: the
    /// embedding that is the head too. On other stages, and where one stage is both, does nothing.
    pub fn sum_ends(&self, grad: &Tensor) -> Result<()> {
        let (stage, last) = (self.group.rank(), self.group.size() - 1);
        if last == 0 || (stage > 0 && stage < last) {
            return Ok(());
        }
        let peer = last - stage;
        let theirs = grad.empty_like();
        let sent = self.group.isend(grad, peer);
        self.group.recv(&theirs, peer)?;
        sent.wait()?;
        let _ = grad.shallow_clone().g_add_(&theirs);
        Ok(())
    }

    pub fn is_last(&self) -> bool {
        self.group.rank() + 1 == self.group.size()
    }
}

/// A tensor on its way to this stage.
struct Incoming {
    tensor: Tensor,
    work: Work<()>,
}

impl Incoming {
    fn wait(self) -> Result<Tensor> {
        self.work.wait()?;
        Ok(self.tensor)
    }
}
