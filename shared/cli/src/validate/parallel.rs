//! Whether the model can be split as the layout says.

use crate::config::{Config, CpLayout};
use anyhow::{Context, Result, ensure};
use launch::Launcher;

/// Most ranks on one host: with more, threads and sockets run out first.
const MOST_ON_ONE_HOST: usize = 256;

/// Most ranks at all: a dry run lists those of a group, and goes through the stages layer by layer.
const MOST: usize = 1 << 20;

pub(super) fn check(config: &Config) -> Result<()> {
    let (model, parallel) = (&config.model, &config.parallel);
    let layout = parallel.layout;
    for (name, n) in [("pp", layout.pp), ("cp", layout.cp), ("tp", layout.tp)] {
        ensure!(n >= 1, "{name} is {n}, but must be at least 1");
    }
    world(config)?;

    let tp = i64::try_from(layout.tp)?;
    let split = [
        ("num_attention_heads", model.num_attention_heads),
        ("num_key_value_heads", model.kv_heads()),
        ("intermediate_size", model.intermediate_size),
    ];
    for (name, size) in split {
        ensure!(size % tp == 0, "tp is {tp}, but must divide {name} {size}");
    }
    let vocab_size = model.vocab_size;
    ensure!(
        tp <= vocab_size,
        "tp is {tp}, but must be at most vocab_size {vocab_size}: every rank needs a token"
    );
    let (pp, layers) = (layout.pp, model.num_hidden_layers);
    ensure!(
        i64::try_from(pp)? <= layers,
        "pp is {pp}, but must be at most num_hidden_layers {layers}: every stage needs a layer"
    );
    let (cp, seq, how) = (layout.cp, config.data.seq_len, parallel.cp_layout);
    let pieces = match how {
        CpLayout::Zigzag => 2 * cp,
        CpLayout::Contiguous => cp,
    };
    ensure!(
        cp == 1 || seq % pieces == 0,
        "cp is {cp}, but {how} cuts a sequence into {pieces} pieces, which must divide seq-len {seq}"
    );
    let bucket = parallel.bucket_mb;
    ensure!(bucket > 0.0, "bucket-mb is {bucket:?}, but must be above 0");
    Ok(())
}

fn world(config: &Config) -> Result<()> {
    let layout = config.parallel.layout;
    let sizes = [layout.dp, layout.pp, layout.cp, layout.tp];
    let world = sizes.iter().try_fold(1usize, |world, n| world.checked_mul(*n));
    let world = world.with_context(|| format!("{layout} makes more ranks than can be counted"))?;
    ensure!(world <= MOST, "{layout} takes {world} ranks, but no cluster has more than {MOST}");
    let elsewhere = config.run.dry_run || config.run.launcher == Launcher::Env;
    ensure!(
        elsewhere || world <= MOST_ON_ONE_HOST,
        "{layout} takes {world} ranks, but one host starts at most {MOST_ON_ONE_HOST}: \
         spread them over hosts with --launcher env"
    );
    Ok(())
}
