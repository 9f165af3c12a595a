//! Everything that cannot work, refused by name.

mod files;
mod model;
mod parallel;
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
