//! Refuses settings that cannot work.

mod extras;
mod files;
mod model;
mod outputs;
mod overwriting;
mod resume;
mod run;
mod train;
mod world;

use crate::{Common, Extras, Settings};
use anyhow::Result;
use checkpoint::saved::Progress;
use comm::Layout;
use launch::Launcher;
use std::path::Path;

/// What a run is asked for, as far as it is looked at here.
struct Asked<'a> {
    common: Common<'a>,
    extras: Extras<'a>,
    layout: Layout,
    launcher: Launcher,
    /// That of `--config`.
    file: Option<&'a Path>,
}

/// `file` is that of `--config`.
pub(crate) fn validate(
    config: &impl Settings,
    launcher: Launcher,
    file: Option<&Path>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<()> {
    let (common, extras, layout) = (config.common(), config.extras(), config.layout());
    let asked = &Asked { common, extras, layout, launcher, file };
    model::check(common.model)?;
    train::check(asked)?;
    extras::check(asked)?;
    world::check(asked)?;
    config.check()?;
    if !extras.dry_run {
        // A dry run reads and writes no files: they may be on another machine.
        files::check(asked)?;
        overwriting::check(asked)?;
    }
    run::check(asked, env)
}

/// Once the data are open: checks the checkpoint to resume from, and makes the directories to write
/// to. `here` is the progress of a run that has made no update. Returns whether the run has a
/// checkpoint to save: a finished one does not overwrite itself.
///
/// # Errors
/// If the checkpoint is not one of this run, or what the run would write is in the way of another's.
pub fn prepare_outputs(config: &impl Settings, here: &Progress) -> Result<bool> {
    let resumed = resume::check(config, here)?;
    outputs::prepare(config, resumed.as_ref())
}
