//! Pipeline parallelism: each stage holds some consecutive layers and passes its output to the next;
//! gradients come back the same way. Micro-batches keep several stages busy at the same time.

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

/// The pass of one micro-batch through one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Forward(usize),
    Backward(usize),
}

/// The order of the passes on one of `stages` stages.
///
/// Both schedules begin with forward passes: AFAB (Huang et al., *GPipe*, 2019) with all of them,
/// 1F1B (Fan et al., *DAPPLE*, 2021) with just enough, stages − stage, for the first gradient to
/// arrive in time. If messages are free, both take equally long, but every forward pass run ahead
/// keeps its activations.
pub fn passes(schedule: Schedule, stage: usize, stages: usize, micro_batches: usize) -> Vec<Pass> {
    let warmup = match schedule {
        Schedule::AllForwardAllBackward => micro_batches,
        Schedule::OneForwardOneBackward => micro_batches.min(stages - stage),
    };
    let mut passes: Vec<Pass> = (0..warmup).map(Pass::Forward).collect();
    for i in 0..micro_batches {
        passes.push(Pass::Backward(i));
        if warmup + i < micro_batches {
            passes.push(Pass::Forward(warmup + i));
        }
    }
    passes
}

/// The layers of each stage. Greedy: each layer goes to the stage with the least work so far, among
/// equals to the last, which keeps the fewest activations. Work is multiplications per token,
/// embedding and head included.
pub fn stages(config: &LlamaConfig, seq_len: usize, stages: usize) -> Vec<Range<i64>> {
    let (hidden, head_dim) = (config.hidden_size, config.head_dim());
    let (q, kv) = (config.num_attention_heads * head_dim, config.kv_heads() * head_dim);
    let scores = q * seq_len as i64; // q·kᵀ and its product with v, half of each masked
    let layer = hidden * (2 * q + 2 * kv + 3 * config.intermediate_size) + scores;
    let mut work = vec![0; stages];
    work[0] += hidden; // the embedding looks up one row
    work[stages - 1] += hidden * config.vocab_size;
    let mut layers = vec![0; stages];
    for _ in 0..config.num_hidden_layers {
        let least = |&stage: &usize| (layers[stage] > 0, work[stage]); // empty ones first
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
    /// Shape of what a stage passes on: `[micro_batch, seq/cp, hidden]`.
    shape: [i64; 3],
    kind: Kind,
    loss_kind: Kind,
    device: Device,
    trace: Trace,
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

    /// Runs all passes of one step, which add up gradients in `.grad`. `target_tokens` divides the
    /// losses; `before_backward` is told, before each backward pass, whether it is the last.
    ///
    /// Returns the sum of the losses, `[]`, which is zero on all stages but the last, and the most
    /// micro-batches whose activations were kept at one time.
    pub fn run(
        &self,
        model: &Llama,
        micro_batches: &[MicroBatch],
        target_tokens: f64,
        before_backward: impl Fn(bool),
    ) -> Result<(Tensor, usize)> {
        let (stage, stages) = (self.group.rank(), self.group.size());
        let passes = passes(self.schedule, stage, stages, micro_batches.len());
        let receive = |pass| self.receive(pass, self.shape);
        let is_forward = |pass: &Pass| matches!(pass, Pass::Forward(_));
        let mut loss = Tensor::zeros([], (self.loss_kind, self.device));
        let (mut in_flight, mut peak_in_flight) = (VecDeque::new(), 0);
        let (mut sent, mut posted) = (None, None);
        for (turn, &pass) in passes.iter().enumerate() {
            let received = posted.or_else(|| receive(pass)).map(Work::wait).transpose()?;
            // Post the next receive before computing, so that the two overlap. But a forward pass asks for no
            // gradient: the neighbour that computes it may have asked for what this pass computes, and a pending
            // receive keeps a GPU busy that a pass may need idle.
            let may_post = |next: &&Pass| !is_forward(&pass) || is_forward(next);
            posted = passes.get(turn + 1).filter(may_post).and_then(|&next| receive(next));
            let message = match pass {
                Pass::Forward(i) => {
                    let _span = self.trace.span(Track::Compute, format!("forward {i}"));
                    let input = received.map(|x| x.set_requires_grad(true));
                    let output =
                        self.forward(model, &micro_batches[i], input.as_ref(), target_tokens)?;
                    let result = output.detach();
                    in_flight.push_back((input, output));
                    peak_in_flight = peak_in_flight.max(in_flight.len());
                    if self.is_last() {
                        loss += result;
                        None
                    } else {
                        Some((result, stage + 1))
                    }
                }
                Pass::Backward(i) => {
                    before_backward(i + 1 == micro_batches.len());
                    let _span = self.trace.span(Track::Compute, format!("backward {i}"));
                    let (input, output) = in_flight.pop_front().context("nothing in flight")?;
                    match received {
                        None => autograd::backward(&output)?,
                        Some(grad) => autograd::backward_with(&output, &grad)?,
                    }
                    input.map(|input| (input.grad(), stage - 1))
                }
            };
            if let Some((tensor, to)) = message {
                sent = self.send(&tensor, to, sent)?;
            }
        }
        sent.map_or(Ok(()), Work::wait)?;
        Ok((loss, peak_in_flight))
    }

    /// The sum of the micro-batches' losses, `[]`, without gradients; zero on all stages but the last.
    pub fn evaluate(
        &self,
        model: &Llama,
        micro_batches: &[MicroBatch],
        target_tokens: f64,
    ) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let mut loss = Tensor::zeros([], (self.loss_kind, self.device));
        let (stage, mut sent) = (self.group.rank(), None);
        for (i, micro_batch) in micro_batches.iter().enumerate() {
            let shape = [micro_batch.inputs.size()[0], self.shape[1], self.shape[2]]; // the last is smaller
            let received = self.receive(Pass::Forward(i), shape).map(Work::wait).transpose()?;
            let output = self.forward(model, micro_batch, received.as_ref(), target_tokens)?;
            if self.is_last() {
                loss += output;
            } else {
                sent = self.send(&output, stage + 1, sent)?;
            }
        }
        sent.map_or(Ok(()), Work::wait)?;
        Ok(loss)
    }

    /// Starts to receive what a pass needs, a tensor of this shape. Nothing for the first stage's forward
    /// and the last stage's backward passes.
    fn receive(&self, pass: Pass, shape: [i64; 3]) -> Option<Work<Tensor>> {
        let stage = self.group.rank();
        let from = match pass {
            Pass::Forward(_) => stage.checked_sub(1)?,
            Pass::Backward(_) if self.is_last() => return None,
            Pass::Backward(_) => stage + 1,
        };
        Some(self.group.irecv(&Tensor::empty(shape, (self.kind, self.device)), from))
    }

    /// Starts to send a tensor, and waits for the message before it, which has been taken by now: a message keeps
    /// its memory until somebody has waited for it.
    fn send(
        &self,
        tensor: &Tensor,
        to: usize,
        before: Option<Work<()>>,
    ) -> Result<Option<Work<()>>> {
        let sent = self.group.isend(tensor, to);
        before.map_or(Ok(()), Work::wait)?;
        Ok(Some(sent))
    }

    /// What the stage makes of a micro-batch: activations to pass on, of the shape of `input`, or on the
    /// last stage the loss, `[]`.
    fn forward(
        &self,
        model: &Llama,
        micro_batch: &MicroBatch,
        input: Option<&Tensor>,
        target_tokens: f64,
    ) -> Result<Tensor> {
        let x = model.forward(&micro_batch.inputs, input)?; // [micro_batch, seq/cp, hidden]
        if self.is_last() {
            return Ok(model.loss(&x, &micro_batch.targets)? / target_tokens);
        }
        Ok(x)
    }

    /// Logits for the token after position `last`: `[vocab]`, on all stages. `tokens`: `[1, seq/cp]`.
    pub fn next_token(&self, model: &Llama, tokens: &Tensor, last: i64) -> Result<Tensor> {
        let shape = [1, tokens.size()[1], self.shape[2]];
        let received = self.receive(Pass::Forward(0), shape).map(Work::wait).transpose()?;
        let x = model.forward(tokens, received.as_ref())?; // [1, seq/cp, hidden]
        let logits = model.next_token(&x, last)?; // [vocab]; zeros on all stages but the last
        if !self.is_last() {
            self.group.send(&x, self.group.rank() + 1)?;
        }
        self.group.broadcast(&logits, self.group.size() - 1)?;
        Ok(logits)
    }

    /// Sums the gradient of a tied embedding, `[vocab/tp, hidden]`, over the first and the last stage,
    /// which each hold one. On other stages, and if there is only one, does nothing.
    pub fn sum_tied_grad(&self, grad: &Tensor) -> Result<()> {
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
