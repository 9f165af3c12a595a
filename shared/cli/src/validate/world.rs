//! Whether so many ranks can be started.

use super::Asked;
use anyhow::{Context, Result, ensure};
use launch::Launcher;

/// Most ranks on one host: with more, threads and sockets run out first.
const MOST_ON_ONE_HOST: usize = 256;

/// Most ranks at all: a dry run lists those of a group, and goes through the stages layer by layer.
const MOST: usize = 1 << 20;

pub(super) fn check(asked: &Asked) -> Result<()> {
    let layout = asked.layout;
    for (name, n) in [("pp", layout.pp), ("cp", layout.cp), ("tp", layout.tp)] {
        ensure!(n >= 1, "{name} is {n}, but must be at least 1");
    }
    let sizes = [layout.dp, layout.pp, layout.cp, layout.tp];
    let world = sizes.iter().try_fold(1usize, |world, n| world.checked_mul(*n));
    let world = world.with_context(|| format!("{layout} makes more ranks than can be counted"))?;
    ensure!(world <= MOST, "{layout} takes {world} ranks, but no cluster has more than {MOST}");
    let elsewhere = asked.extras.dry_run || asked.launcher == Launcher::Env;
    ensure!(
        elsewhere || world <= MOST_ON_ONE_HOST,
        "{layout} takes {world} ranks, but one host starts at most {MOST_ON_ONE_HOST}: \
         spread them over hosts with --launcher env"
    );
    Ok(())
}
