//! Everything that cannot work, refused by name.

mod files;
mod model;
mod outputs;
mod overwriting;
mod parallel;
mod resume;
mod run;
mod train;

use crate::Config;
use anyhow::Result;
use std::path::Path;

/// `file` is that of `--config`.
pub(crate) fn validate(
    config: &Config,
    file: Option<&Path>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<()> {
    model::check(&config.model)?;
    train::check(config)?;
    parallel::check(config)?;
    if !config.run.dry_run {
        // A dry run reads and writes none: they may be on another machine.
        files::check(config, file)?;
        overwriting::check(config, file)?;
    }
    run::check(config, env)
}

/// Once the data are open: the checkpoint that the run goes on from, and those that it will write.
pub(crate) fn checkpoints(config: &mut Config) -> Result<()> {
    let start = resume::check(config)?;
    outputs::check(config, start)
}
