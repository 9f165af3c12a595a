//! Pipeline parallelism: each stage holds some consecutive layers and passes its output to the
//! next; gradients come back the same way. Micro-batches keep several stages busy at the same time.

use anyhow::{Context, Result};
use checkpoint::Placement;
use comm::{Group, Layout, Mesh, Work};
use data::MicroBatch;
use report::{Pass, Trace, Track};
use std::collections::VecDeque;
use tch::{Device, Kind, Tensor};

use crate::config::{Config, Schedule};
use crate::layers::Parameter;
use crate::model::Llama;
use crate::schedule::passes;

/// This rank's place in the pipeline.
pub struct PipelineParallel {
    group: Group,
    schedule: Schedule,
    /// Shape of what a stage passes on: `[micro_batch, seq/cp, hidden]`, or with sequence parallelism
    /// `[micro_batch, seq/(cp·tp), hidden]`.
    shape: [i64; 3],
    kind: Kind,
    loss_kind: Kind,
    device: Device,
    trace: Trace,
}

/// Both ends of a stage's autograd graph of one micro-batch. As long as it exists, so do
/// the activations.
struct Graph {
    /// What was received; `None` on the first stage.
    input: Option<Tensor>,
    output: Tensor,
}

impl PipelineParallel {
    /// With the schedule that `config` names.
    pub fn new(config: &Config, mesh: &Mesh) -> Self {
        let Layout { cp, tp, .. } = mesh.layout;
        let parts = if config.activations.sequence_parallel { cp * tp } else { cp };
        let (batch, seq) = (config.train.micro_batch, config.data.seq_len / parts);
        Self {
            group: mesh.pp.clone(),
            schedule: config.parallel.schedule,
            shape: [batch as i64, seq as i64, config.model.hidden_size],
            kind: config.run.kind(),
            loss_kind: config.run.weights_kind(),
            device: config.run.device(),
            trace: mesh.trace.clone(),
        }
    }

    /// Runs all passes of one step, which add up gradients in `.grad`. `target_tokens` divides the
    /// losses; `before_backward` is told, before each backward pass, whether it is the last.
    ///
    /// Returns the sum of the losses, `[]`, which is zero on all stages but the last.
    pub fn run(
        &self,
        model: &Llama,
        micro_batches: &[MicroBatch],
        target_tokens: f64,
        before_backward: impl Fn(bool),
    ) -> Result<Tensor> {
        let (stage, stages) = (self.group.rank(), self.group.size());
        let passes = passes(self.schedule, stage, stages, micro_batches.len());
        let mut loss = Tensor::zeros([], (self.loss_kind, self.device));
        let (mut in_flight, mut posted, mut sent) = (VecDeque::new(), None, None);
        for (turn, &pass) in passes.iter().enumerate() {
            let receive = || self.receive(pass, self.shape);
            let received = posted.or_else(receive).map(Work::wait).transpose()?;
            posted = self.receive_ahead(pass, passes.get(turn + 1));
            let result = match pass {
                Pass::Forward(i) => {
                    let _span = self.trace.span(Track::Compute, pass.to_string());
                    let graph = self.forward(model, &micro_batches[i], received, target_tokens)?;
                    let output = graph.output.detach();
                    if self.is_last() {
                        loss += &output;
                    }
                    in_flight.push_back(graph);
                    Some(output)
                }
                Pass::Backward(i) => {
                    before_backward(i + 1 == micro_batches.len());
                    let _span = self.trace.span(Track::Compute, pass.to_string());
                    let graph = in_flight.pop_front().context("nothing in flight")?;
                    self.backward(graph, received)?
                }
            };
            sent = self.send(pass, result, sent)?;
        }
        sent.map_or(Ok(()), Work::wait)?;
        Ok(loss)
    }

    /// The sum of the micro-batches' losses, `[]`, without gradients; zero on all
    /// stages but the last.
    pub fn evaluate(
        &self,
        model: &Llama,
        micro_batches: &[MicroBatch],
        target_tokens: f64,
    ) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let mut loss = Tensor::zeros([], (self.loss_kind, self.device));
        let mut sent = None;
        for (i, micro_batch) in micro_batches.iter().enumerate() {
            let (pass, batch) = (Pass::Forward(i), micro_batch.inputs.size()[0]); // the last is smaller
            let received = self.receive(pass, [batch, self.shape[1], self.shape[2]]);
            let received = received.map(Work::wait).transpose()?;
            let output = self.output(model, micro_batch, received.as_ref(), target_tokens)?;
            if self.is_last() {
                loss += &output;
            }
            sent = self.send(pass, Some(output), sent)?;
        }
        sent.map_or(Ok(()), Work::wait)?;
        Ok(loss)
    }

    /// Starts to receive what a pass needs, a tensor of this shape. Nothing is needed by the first
    /// stage's forward passes and the last stage's backward passes.
    fn receive(&self, pass: Pass, shape: [i64; 3]) -> Option<Work<Tensor>> {
        let stage = self.group.rank();
        let from = match pass {
            Pass::Forward(_) => stage.checked_sub(1)?,
            Pass::Backward(_) if self.is_last() => return None,
            Pass::Backward(_) => stage + 1,
        };
        Some(self.group.irecv(&Tensor::empty(shape, (self.kind, self.device)), from))
    }

    /// Starts to receive what the next pass needs while this one computes. But never posts a
    /// gradient receive during a forward pass: on a GPU, two stages that wait for each other would
    /// deadlock.
    fn receive_ahead(&self, pass: Pass, next: Option<&Pass>) -> Option<Work<Tensor>> {
        match (pass, *next?) {
            (Pass::Forward(_), Pass::Backward(_)) => None,
            (_, next) => self.receive(next, self.shape),
        }
    }

    /// A forward pass, on what was received.
    fn forward(
        &self,
        model: &Llama,
        micro_batch: &MicroBatch,
        received: Option<Tensor>,
        target_tokens: f64,
    ) -> Result<Graph> {
        let input = received.map(|x| x.set_requires_grad(true));
        let output = self.output(model, micro_batch, input.as_ref(), target_tokens)?;
        Ok(Graph { input, output })
    }

    /// A backward pass, from the gradient that was received, or from the loss itself. Returns the
    /// gradient of the input, of its shape.
    fn backward(&self, graph: Graph, received: Option<Tensor>) -> Result<Option<Tensor>> {
        match received {
            None => autograd::backward(&graph.output)?,
            Some(grad) => autograd::backward_with(&graph.output, &grad)?,
        }
        Ok(graph.input.map(|input| input.grad()))
    }

    /// Starts to send the result of a pass to the stage that needs it, then waits for the previous
    /// message, which the neighbour has already received: only this wait frees its memory. The last
    /// stage's forward passes and the first stage's backward passes send nothing.
    fn send(
        &self,
        pass: Pass,
        result: Option<Tensor>,
        before: Option<Work<()>>,
    ) -> Result<Option<Work<()>>> {
        let (result, to) = match (pass, result) {
            (Pass::Forward(_), Some(output)) if !self.is_last() => (output, self.group.rank() + 1),
            (Pass::Backward(_), Some(grad)) => (grad, self.group.rank() - 1),
            _ => return Ok(before),
        };
        let sent = self.group.isend(&result, to);
        before.map_or(Ok(()), Work::wait)?;
        Ok(Some(sent))
    }

    /// What the stage makes of a micro-batch: activations to pass on, of the shape of `input`, or
    /// on the last stage the loss, `[]`.
    fn output(
        &self,
        model: &Llama,
        micro_batch: &MicroBatch,
        input: Option<&Tensor>,
        target_tokens: f64,
    ) -> Result<Tensor> {
        let x = model.forward(&micro_batch.inputs, input)?; // [micro_batch, seq/(cp·tp), hidden]
        if self.is_last() {
            return Ok(model.loss(&x, &micro_batch.targets)? / target_tokens);
        }
        Ok(x)
    }

    /// Logits for the token after position `last`: `[vocab]`, on all stages.
    /// `tokens`: `[1, seq/cp]`.
    pub fn next_token(&self, model: &Llama, tokens: &Tensor, last: i64) -> Result<Tensor> {
        let shape = [1, self.shape[1], self.shape[2]];
        let received = self.receive(Pass::Forward(0), shape).map(Work::wait).transpose()?;
        let x = model.forward(tokens, received.as_ref())?; // [1, seq/(cp·tp), hidden]
        let logits = model.next_token(&x, last)?; // [vocab]; zeros on all stages but the last
        if !self.is_last() {
            self.group.send(&x, self.group.rank() + 1)?;
        }
        self.group.broadcast(&logits, self.group.size() - 1)?;
        Ok(logits)
    }

    /// Sums the gradients that are [`Placement::Partial`] over the stages: that of a tied
    /// embedding, which stands on the first and on the last.
    pub fn sum_partial_grads(&self, parameters: &[Parameter]) -> Result<()> {
        let (stage, last) = (self.group.rank(), self.group.size() - 1);
        let partial = parameters.iter().filter(|p| p.pp == Placement::Partial && last > 0);
        for grad in partial.map(|p| p.tensor.grad()) {
            let (theirs, peer) = (grad.empty_like(), last - stage); // [vocab/tp, hidden]
            let sent = self.group.isend(&grad, peer);
            self.group.recv(&theirs, peer)?;
            sent.wait()?;
            let _ = grad.shallow_clone().g_add_(&theirs);
        }
        Ok(())
    }

    /// Whether this is the last stage, which has the loss.
    pub fn is_last(&self) -> bool {
        self.group.rank() + 1 == self.group.size()
    }
}
