//! The drawings that are made from numbers rather than by hand, all in one style.

mod block;
pub(crate) mod canvas;
mod ladder;
mod overlap;
mod replicas;
mod ring;
mod schedules;
mod split;
mod stages;
mod sums;

use anyhow::{Result, bail};

/// The drawing called `name`, as SVG that takes its colours from the page.
///
/// # Errors
/// When there is none; the message lists those there are.
pub fn by_name(name: &str) -> Result<String> {
    Ok(match name {
        "ladder" => ladder::svg(),
        "layer-sums" => sums::svg(),
        "llama-block" => block::svg(),
        "overlap" => overlap::svg(),
        "replicas" => replicas::svg(),
        "ring-all-reduce" => ring::svg(),
        "schedules" => schedules::svg(),
        "split-matrices" => split::svg(),
        "stages" => stages::svg(),
        _ => bail!(
            "there is no drawing `{name}` \
             (there are: ladder, layer-sums, llama-block, overlap, replicas, ring-all-reduce, \
             schedules, split-matrices, stages)"
        ),
    })
}
