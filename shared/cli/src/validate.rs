//! Refuses settings that cannot work.

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
        // A dry run reads and writes no files: they may be on another machine.
        files::check(config, file)?;
        overwriting::check(config, file)?;
    }
    run::check(config, env)
}

/// Once the data are open: checks the checkpoint to resume from, and makes the directories to write
/// to. Returns whether the run has a checkpoint to save: a finished one does not overwrite itself.
pub(crate) fn prepare_outputs(config: &Config) -> Result<bool> {
    let resumed = resume::check(config)?;
    outputs::prepare(config, resumed.as_ref())
}
