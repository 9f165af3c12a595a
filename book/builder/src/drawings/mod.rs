//! The drawings that are made from numbers rather than by hand, all in one style.

mod block;
pub(crate) mod canvas;
mod context;
mod ladder;
mod memory;
mod nodes;
mod overlap;
mod passing;
mod replicas;
mod ring;
mod schedules;
mod shared_tokens;
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
        "causal-triangle" => context::svg(),
        "ladder" => ladder::svg(),
        "layer-sums" => sums::svg(),
        "llama-block" => block::svg(),
        "memory-by-length" => memory::svg(),
        "nodes" => nodes::svg(),
        "overlap" => overlap::svg(),
        "passing-blocks" => passing::svg(),
        "replicas" => replicas::svg(),
        "ring-all-reduce" => ring::svg(),
        "schedules" => schedules::svg(),
        "schedules-messages" => schedules::with_messages(),
        "shared-tokens" => shared_tokens::svg(),
        "split-matrices" => split::svg(),
        "stages" => stages::svg(),
        _ => bail!(
            "there is no drawing `{name}` \
             (there are: causal-triangle, ladder, layer-sums, llama-block, memory-by-length, \
             nodes, overlap, passing-blocks, replicas, ring-all-reduce, schedules, \
             schedules-messages, shared-tokens, split-matrices, stages)"
        ),
    })
}
