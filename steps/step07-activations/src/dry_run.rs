//! `--dry-run`: a plan of the run, made from the very lists and sizes that the trainer works with.

use anyhow::Result;
use cli::{Settings, word};

use crate::config::{Config, CpLayout, DpSync, Parallel, TpSync};
use crate::data_parallel::cut;
use crate::schedule::{passes, stages};

/// The settings that a plan counts with.
pub fn run(config: &Config) -> plan::Run {
    let Parallel { dp_sync, tp_sync, schedule, cp_layout, .. } = config.parallel;
    plan::Run {
        model: config.model.clone(),
        layout: config.layout(),
        seq_len: config.data.seq_len,
        micro_batch: config.train.micro_batch,
        global_batch: config.train.global_batch,
        bucket_bytes: (dp_sync == DpSync::Bucketed).then(|| config.parallel.bucket_bytes()),
        overlapped_tp: tp_sync == TpSync::Overlapped,
        activations: config.activations.planned(config.parallel.tp),
        schedule: word(&schedule),
        zigzag: cp_layout == CpLayout::Zigzag,
        device: config.run.device,
        dtype: config.run.dtype,
        gpu: config.planning.gpu,
    }
}

/// What a plan has to know of this trainer.
pub fn trainer(config: &Config) -> plan::Trainer {
    let (pp, micro_batches) = (config.parallel.pp, run(config).micro_batches());
    let passes = |stage| passes(config.parallel.schedule, stage, pp, micro_batches);
    plan::Trainer {
        stages: stages(&config.model, config.data.seq_len, pp),
        passes: (0..pp).map(passes).collect(),
        chunk_len: autograd::chunk_len(config.run.device()) as u64,
        cut,
    }
}

/// Prints the plan. Reads no file, allocates no tensor, starts no rank.
pub fn print(config: &Config) -> Result<()> {
    plan::print(run(config), trainer(config))
}
