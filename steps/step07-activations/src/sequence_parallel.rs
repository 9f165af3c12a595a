//! Sequence parallelism (Korthikanti et al., *Reducing Activation Recomputation in Large Transformer
//! Models*, 2022): between a row-parallel matrix and the next column-parallel one, each tp rank
//! holds an equal part of the tokens instead of all of them.
//!
//! An all-reduce is a reduce-scatter and an all-gather. g keeps the first half: a rank gets the sum
//! for its own tokens. f is the second half: it gathers the tokens of all ranks. In between lie
//! norms, residual sums, and what the pipeline sends: all work token by token. Each operator is
//! the other's backward pass.

use anyhow::Result;
use autograd::{Finish, Input, done};
use checkpoint::Placement;
use tch::Tensor;

use crate::config::TpSync;
use crate::layers::Parameter;
use crate::tensor_parallel::TensorParallel;

/// The dimension of the tokens in `[batch, seq, hidden]`.
const SEQ: usize = 1;

impl TensorParallel {
    /// All tokens from those of each rank: `[batch, seq/(cp·tp), hidden]` to
    /// `[batch, seq/cp, hidden]`. Without sequence parallelism every rank has them already.
    pub fn whole(&self, mine: &Tensor) -> Result<Tensor> {
        if !self.sequence {
            return Ok(mine.shallow_clone());
        }
        Ok(self.group.all_gather_dim(mine, SEQ)?)
    }

    /// The sum of the ranks' partial sums, `[batch, seq/cp, hidden]`: with sequence parallelism this
    /// rank's tokens of it, `[batch, seq/(cp·tp), hidden]`. Spoils `partial`.
    pub fn sum(&self, partial: &Tensor) -> Result<Tensor> {
        if self.sequence {
            return Ok(self.group.reduce_scatter_dim(partial, SEQ)?);
        }
        self.group.all_reduce(partial)?;
        Ok(partial.shallow_clone())
    }

    /// f before a matrix product. As `tp-sync` says, no message waits for the gradient of the weights,
    /// or each waits; as `sp-gather` says, the product keeps all tokens, or gathers them again.
    pub fn before_product(&self, x: impl Into<Input>) -> Result<Input> {
        let (x, keep) = (x.into(), self.keeps_gathered);
        let (there, back) = (self.clone(), self.clone());
        match self.sync {
            TpSync::Blocking => {
                x.through(keep, move |x| there.whole(x), move |grad| back.sum(grad))
            }
            TpSync::Overlapped => {
                x.sent(keep, move |x| there.start_whole(x), move |grad| back.start_sum(grad))
            }
        }
    }

    fn start_whole(&self, mine: Tensor) -> Result<Finish> {
        if !self.sequence {
            return done(mine);
        }
        let whole = self.group.all_gather_dim_async(&mine, SEQ);
        Ok(Box::new(|| Ok(whole.wait()?)))
    }

    fn start_sum(&self, partial: Tensor) -> Result<Finish> {
        if self.sequence {
            let sum = self.group.reduce_scatter_dim_async(&partial, SEQ);
            return Ok(Box::new(|| Ok(sum.wait()?)));
        }
        let sum = self.group.all_reduce_async(&partial);
        Ok(Box::new(|| {
            sum.wait()?;
            Ok(partial)
        }))
    }

    /// Sums the gradients that are [`Placement::Partial`] over the tp ranks, in one buffer: those of
    /// norms, which each rank computes from its own tokens.
    pub fn sum_partial_grads(&self, parameters: &[Parameter]) -> Result<()> {
        let partial = parameters.iter().filter(|p| p.tp == Placement::Partial);
        let grads: Vec<Tensor> = partial.map(|p| p.tensor.grad()).collect();
        if grads.is_empty() {
            return Ok(());
        }
        let buffer = Tensor::cat(&grads, 0); // [norms·hidden]
        self.group.all_reduce(&buffer)?;
        let mut start = 0;
        for mut grad in grads {
            let length = grad.size()[0];
            grad.copy_(&buffer.narrow(0, start, length));
            start += length;
        }
        Ok(())
    }
}
