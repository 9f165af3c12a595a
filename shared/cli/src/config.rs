//! A run's settings, each under its flag's name.

pub use crate::choices::{CpLayout, DeviceName, DpSync, Dtype, Gpu, Schedule, TpSync};
use anyhow::{Context, Result};
use checkpoint::LlamaConfig;
use checkpoint::saved::Progress;
use comm::Layout;
use data::{BatchOptions, Batches, Dataset, TokenCache, Tokenizer};
use launch::{Launch, Launcher, Signals};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Config {
    pub model: LlamaConfig,
    /// Where the weights come from; without it, from the seed.
    pub hf_model: Option<PathBuf>,
    pub data: DataConfig,
    pub train: TrainConfig,
    pub parallel: ParallelConfig,
    pub run: RunConfig,
    /// Opened once when the settings are checked, and shared by the ranks of this process; a dry run
    /// has none.
    pub(crate) dataset: Option<Arc<Dataset>>,
    /// Held-out text, where a validation loss is asked for.
    pub(crate) eval_dataset: Option<Arc<Dataset>>,
    /// What the user should know before the run starts, a sentence each.
    pub notes: Vec<String>,
    /// What tells the run to end; heeded in [`crate::main`].
    pub(crate) signals: Signals,
}

#[derive(Clone, Debug)]
pub struct DataConfig {
    /// `None`: the built-in tales.
    pub data: Option<PathBuf>,
    /// Held-out text. `None`: tales that the built-in ones do not tell.
    pub eval_data: Option<PathBuf>,
    /// `None`: bytes.
    pub tokenizer: Option<PathBuf>,
    /// Where the tokens of a long text are kept. `None`: beside it.
    pub data_cache: Option<PathBuf>,
    /// Tokens in a sample.
    pub seq_len: usize,
    pub shuffle: bool,
}

#[derive(Clone, Debug)]
pub struct TrainConfig {
    pub steps: usize,
    /// Sequences that go through the model at once.
    pub micro_batch: usize,
    /// Sequences of one optimiser step, over all replicas.
    pub global_batch: usize,
    pub seed: u64,
    pub lr: f64,
    pub min_lr: f64,
    /// Steps, at most `steps`.
    pub warmup: usize,
    pub weight_decay: f64,
    /// Highest norm of the gradient; 0 for no clipping.
    pub clip: f64,
    /// Steps between two computations of the validation loss, which is also computed after the last;
    /// `None`: never.
    pub eval_every: Option<usize>,
    /// Global batches that it is computed on, if there are so many.
    pub eval_batches: usize,
}

#[derive(Clone, Debug)]
pub struct ParallelConfig {
    pub layout: Layout,
    pub dp_sync: DpSync,
    /// Size of a gradient bucket in MiB.
    pub bucket_mb: f64,
    pub tp_sync: TpSync,
    pub schedule: Schedule,
    pub cp_layout: CpLayout,
}

impl ParallelConfig {
    /// Size of a gradient bucket in bytes.
    pub fn bucket_bytes(&self) -> usize {
        (self.bucket_mb * 1048576.0) as usize
    }
}

#[derive(Clone, Debug)]
pub struct RunConfig {
    pub device: DeviceName,
    pub dtype: Dtype,
    pub launcher: Launcher,
    /// `None`: one.
    pub threads_per_rank: Option<usize>,
    /// Longest wait for another rank.
    pub timeout: Duration,
    pub metrics: Option<PathBuf>,
    pub trace: Option<PathBuf>,
    /// Tokens to write after training; 0 for none.
    pub sample: usize,
    pub prompt: String,
    pub save: Option<PathBuf>,
    pub save_every: Option<usize>,
    /// How many checkpoints are kept; `None`: all.
    pub save_keep: Option<usize>,
    pub resume: Option<PathBuf>,
    pub export_hf: Option<PathBuf>,
    pub dry_run: bool,
    /// What a dry run predicts for.
    pub gpu: Gpu,
    /// On cuda, that of this process's rank.
    pub gpu_of_rank: Option<launch::Gpu>,
    /// On cuda, how many GPUs all ranks have together: fewer than ranks where they share them.
    pub gpus: usize,
}

impl Config {
    /// How to start the ranks.
    pub fn launch(&self) -> Launch {
        Launch {
            layout: self.parallel.layout,
            agreement: self.agreement(),
            launcher: self.run.launcher,
            threads_per_rank: self.run.threads_per_rank.unwrap_or(1),
            timeout: self.run.timeout,
            trace: self.run.trace.is_some(),
            gpu: self.run.gpu_of_rank,
            signals: self.signals.clone(),
            ..Launch::default()
        }
    }

    /// What is computed in.
    pub fn kind(&self) -> tch::Kind {
        match self.run.dtype {
            Dtype::F32 => tch::Kind::Float,
            Dtype::F64 => tch::Kind::Double,
            Dtype::Bf16 => tch::Kind::BFloat16,
        }
    }

    /// What weights, gradients and optimiser states are kept in.
    pub fn weights_kind(&self) -> tch::Kind {
        match self.run.dtype {
            Dtype::F32 | Dtype::Bf16 => tch::Kind::Float,
            Dtype::F64 => tch::Kind::Double,
        }
    }

    /// Where this process computes: on cuda, the GPU of its rank.
    pub fn device(&self) -> tch::Device {
        match self.run.device {
            DeviceName::Cpu => tch::Device::Cpu,
            DeviceName::Cuda => {
                tch::Device::Cuda(self.run.gpu_of_rank.map_or(0, |gpu| gpu.ordinal))
            }
        }
    }

    /// Micro-batches that one replica adds up for one optimiser step.
    pub fn micro_batches(&self) -> usize {
        self.train.global_batch / (self.parallel.layout.dp * self.train.micro_batch)
    }

    /// Target tokens of one optimiser step, over all replicas.
    pub fn tokens_per_step(&self) -> usize {
        self.train.global_batch * self.data.seq_len
    }

    /// Whether the data are tokens whose text is not known: from a file of them, without a
    /// tokenizer and with another vocabulary than that of bytes.
    pub(crate) fn has_unnamed_tokens(&self) -> bool {
        let tokens = self.data.data.as_deref().and_then(data::token_width).is_some();
        tokens && self.data.tokenizer.is_none() && self.model.vocab_size != 256
    }

    /// What turns the data's text into tokens.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        self.data.tokenizer.as_deref().map_or(Ok(Tokenizer::Bytes), Tokenizer::from_file)
    }

    /// Reads what `data` names, so that a file which cannot be trained on is refused like a flag.
    pub(crate) fn open_data(&mut self) -> Result<()> {
        let vocab_size = usize::try_from(self.model.vocab_size).context("vocab_size")?;
        let (tokenizer, seq_len) = (self.tokenizer()?, self.data.seq_len);
        let cache =
            TokenCache { dir: self.data.data_cache.as_deref(), say: &|line| eprintln!("{line}") };
        let dataset = match &self.data.data {
            Some(path) => Dataset::open(path, &tokenizer, cache, vocab_size, seq_len)?,
            None => Dataset::tales(&tokenizer, vocab_size, seq_len)?,
        };
        self.notes.extend(self.note_on_padding(&dataset));
        self.dataset = Some(Arc::new(dataset));
        if self.train.eval_every.is_some() {
            let dataset = match &self.data.eval_data {
                Some(path) => Dataset::open(path, &tokenizer, cache, vocab_size, seq_len)?,
                None => Dataset::held_out_tales(&tokenizer, vocab_size, seq_len)?,
            };
            self.eval_dataset = Some(Arc::new(dataset));
        }
        Ok(())
    }

    /// transformers never changes the embedding of the token that pads, and many models pad with
    /// one that texts end with.
    fn note_on_padding(&self, dataset: &Dataset) -> Option<String> {
        let id = self.model.token_ids.get("pad_token_id")?.as_i64()?;
        dataset.has(id).then(|| {
            format!(
                "pad_token_id is {id}, which occurs in the data: it is trained like any other token, where \
                 transformers would leave its embedding as it is"
            )
        })
    }

    /// The batches of replica `dp_rank` of `dp`.
    pub fn batches(&self, dp_rank: usize, dp: usize) -> Result<Batches> {
        let dataset = self.dataset.clone().context("a dry run reads no data")?;
        self.batches_of(dataset, dp_rank, dp, self.data.shuffle.then_some(self.train.seed))
    }

    /// The held-out batches of replica `dp_rank` of `dp`; `None` if no validation loss is asked for.
    pub fn eval_batches(&self, dp_rank: usize, dp: usize) -> Result<Option<Batches>> {
        let dataset = self.eval_dataset.clone();
        dataset.map(|dataset| self.batches_of(dataset, dp_rank, dp, None)).transpose()
    }

    fn batches_of(
        &self,
        dataset: Arc<Dataset>,
        dp_rank: usize,
        dp: usize,
        shuffle_seed: Option<u64>,
    ) -> Result<Batches> {
        let (global_batch, micro_batch) = (self.train.global_batch, self.train.micro_batch);
        let device = self.device();
        let options = BatchOptions { global_batch, micro_batch, dp_rank, dp, shuffle_seed, device };
        Batches::new(dataset, options)
    }

    /// The progress of the run after `step` updates, for a checkpoint.
    pub fn progress(&self, step: usize) -> Progress {
        Progress {
            step,
            global_batch: self.train.global_batch,
            seq_len: self.data.seq_len,
            shuffle: self.data.shuffle.then_some(self.train.seed),
            samples: self.dataset.as_ref().map_or(0, |dataset| dataset.samples()),
            data: self.dataset.as_ref().map_or(0, |dataset| dataset.fingerprint()),
            settings: self.settings(),
        }
    }
}
