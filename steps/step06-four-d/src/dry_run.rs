//! `--dry-run`: a plan of the run, made from the very lists and sizes that the trainer works with.

use cli::Config;

use crate::data_parallel::cut;
use crate::schedule::{passes, stages};

/// What a plan has to know of this trainer.
pub fn trainer(config: &Config) -> plan::Trainer {
    let (pp, micro_batches) = (config.parallel.layout.pp, config.micro_batches());
    let passes = |stage| passes(config.parallel.schedule, stage, pp, micro_batches);
    plan::Trainer {
        stages: stages(&config.model, config.data.seq_len, pp),
        passes: (0..pp).map(passes).collect(),
        chunk_len: autograd::chunk_len(config.device()) as u64,
        cut,
    }
}
