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

impl Run {
    /// Micro-batches that one replica adds up for one update.
    pub fn micro_batches(&self) -> usize {
        self.global_batch / (self.layout.dp * self.micro_batch)
    }
}
