//! What a plan must know of a run.

use checkpoint::LlamaConfig;
use cli::{DeviceName, Dtype, Gpu};
use comm::Layout;

/// A run on paper, as plain values.
#[derive(Clone, Debug)]
pub struct Run {
    /// The architecture.
    pub model: LlamaConfig,
    /// The ranks.
    pub layout: Layout,
    /// Tokens in a sample.
    pub seq_len: usize,
    /// Sequences that go through the model at once.
    pub micro_batch: usize,
    /// Sequences of one update, over all replicas.
    pub global_batch: usize,
    /// Bytes in one all-reduce of gradients, during the backward pass; `None`: one all-reduce for
    /// each parameter, after it.
    pub bucket_bytes: Option<usize>,
    /// Whether the sum of an input's gradient over tp travels beside the gradient of the weight.
    pub overlapped_tp: bool,
    /// What is kept of a forward pass.
    pub activations: Activations,
    /// The name of the schedule, to be printed; its passes are in [`Trainer`](crate::Trainer).
    pub schedule: String,
    /// Whether cp ranks hold a piece from each half of a sequence, or one contiguous piece.
    pub zigzag: bool,
    /// What the run computes on.
    pub device: DeviceName,
    /// What it computes in.
    pub dtype: Dtype,
    /// The kind of GPU that times and memory are foretold for.
    pub gpu: Gpu,
}

/// What a rank keeps of a forward pass for the backward pass. By default, everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activations {
    /// Whether tp ranks share out the tokens wherever no matrix is split.
    pub sequence_parallel: bool,
    /// Whether they gather them a second time in the backward pass, and not keep them.
    pub gather_twice: bool,
    /// What is computed again.
    pub recompute: Recompute,
}

/// What the backward pass computes again, and the forward pass does not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// What norms and SwiGLU hand to the products behind them.
    Elementwise,
    /// Each layer, from its input.
    Layer,
}

impl Activations {
    /// What differs from the default, to be printed.
    pub(crate) fn words(&self) -> String {
        let shared = match (self.sequence_parallel, self.gather_twice) {
            (false, _) => "",
            (true, true) => ", sequence-parallel",
            (true, false) => ", sequence-parallel (gathers once)",
        };
        let again = match self.recompute {
            Recompute::None => "",
            Recompute::Elementwise => ", recompute elementwise",
            Recompute::Layer => ", recompute layer",
        };
        format!("{shared}{again}")
    }

    /// Whether whole layers are computed again.
    pub fn layers_again(&self) -> bool {
        self.recompute == Recompute::Layer
    }
}

impl Run {
    /// Micro-batches that one replica adds up for one update.
    pub fn micro_batches(&self) -> usize {
        self.global_batch / (self.layout.dp * self.micro_batch)
    }
}
