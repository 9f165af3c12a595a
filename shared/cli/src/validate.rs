//! Everything that cannot work, refused by name.

mod files;
mod model;
mod outputs;
mod parallel;
mod resume;
mod run;
mod train;

use crate::Config;
use anyhow::Result;

pub(crate) fn validate(config: &Config, env: impl Fn(&str) -> Option<String>) -> Result<()> {
    model::check(&config.model)?;
    train::check(config)?;
    parallel::check(config)?;
    if !config.run.dry_run {
        files::check(config)?; // a dry run reads and writes none: they may be on another machine
    }
    run::check(config, env)
}

/// Once the data are open: the checkpoint that the run goes on from, and those that it will write.
pub(crate) fn checkpoints(config: &Config) -> Result<()> {
    let start = resume::check(config)?;
    outputs::check(config, start)
}
