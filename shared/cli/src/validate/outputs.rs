//! Directories to write to. What cannot be written is found here, and not after the training.

use super::overwriting::same;
use crate::Settings;
use anyhow::{Context, Result, ensure};
use checkpoint::saved::{CheckpointReader, named_in};
use std::fs::{self, File};
use std::path::Path;

/// Makes the output directories, and refuses a checkpoint that this run, which resumes from
/// `resumed`, would overwrite. What is found here is an earlier run's: no rank trains before all
/// have joined. Returns whether there is anything to save, other than the very checkpoint that it
/// resumes from.
pub(super) fn prepare(config: &impl Settings, resumed: Option<&CheckpointReader>) -> Result<bool> {
    let (common, extras) = (config.common(), config.extras());
    let steps = common.train.steps;
    let start = resumed.map_or(0, |saved| saved.progress().step);
    if let Some(path) = common.run.metrics.as_deref().filter(|path| start > 0 && path.is_file()) {
        report::metrics_up_to(path, start)
            .with_context(|| format!("metrics {}", path.display()))?;
    }
    if let Some(dir) = extras.export_hf {
        make("export-hf", dir)?;
    }
    let Some(dir) = extras.save else { return Ok(false) };
    make("save", dir)?;
    let every = extras.save_every.unwrap_or(steps);
    let writes =
        |step: usize| step == steps || (start < step && step < steps && step.is_multiple_of(every));
    let mut there = named_in(dir)?;
    there.sort();
    for (step, path) in there {
        if start == steps && resumed.is_some_and(|saved| same(saved.dir(), &path)) {
            return Ok(false); // it is there already, just as it would be written
        }
        let shown = path.display();
        ensure!(
            !writes(step),
            "save {}: {shown} already exists, and this run would overwrite it: resume from it, or save elsewhere",
            dir.display()
        );
    }
    Ok(true)
}

/// Makes a directory if there is none, and a file in it for a moment.
fn make(name: &str, dir: &Path) -> Result<()> {
    let shown = dir.display();
    ensure!(!dir.exists() || dir.is_dir(), "{name} {shown} is not a directory");
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    let made = fs::create_dir_all(dir).and_then(|()| File::create(&probe));
    made.with_context(|| format!("{name} {shown} cannot be written to"))?;
    // If nodes share the directory, another may have used the same name, and removed it.
    let _ = fs::remove_file(probe);
    Ok(())
}
