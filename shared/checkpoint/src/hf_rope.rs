//! The rotary embedding of a `config.json`, which has two spellings.

use crate::RopeScaling;
use crate::config::default_theta;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The table `rope_scaling`, or `rope_parameters`, its newer name.
#[derive(Deserialize)]
pub(crate) struct HfRope {
    rope_type: Option<String>,
    /// The older name of `rope_type`; many files have both.
    #[serde(rename = "type")]
    older_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<i64>,
}

/// Theta, and the scaling if there is one. `tables` by their names; `theta` and `original` are what
/// stands outside of them, and `longest` is `max_position_embeddings`.
///
/// transformers takes the one table where both stand, and what a table says where it stands outside
/// too. Whoever wrote the file may have meant the other: they must agree.
pub(crate) fn read(
    tables: [(&str, Option<HfRope>); 2],
    theta: Option<f64>,
    original: Option<i64>,
    longest: i64,
) -> Result<(f64, Option<RopeScaling>)> {
    let mut found: Vec<(&str, (f64, Option<RopeScaling>))> = vec![];
    for (name, table) in tables {
        let Some(table) = table else { continue };
        agree(name, "rope_theta", table.rope_theta, theta)?;
        let inside = table.original_max_position_embeddings;
        agree(name, "original_max_position_embeddings", inside, original)?;
        let theta = table.rope_theta.or(theta).unwrap_or_else(default_theta);
        found.push((name, (theta, table.scaling(original.unwrap_or(longest))?)));
    }
    if let [(old, ours), (new, theirs)] = &found[..] {
        ensure!(
            ours == theirs,
            "{old} is {}, but {new}, its newer name, is {}: leave one of them out",
            shown(ours),
            shown(theirs)
        );
    }
    let plain = (theta.unwrap_or_else(default_theta), None);
    Ok(found.into_iter().next().map_or(plain, |(_, rope)| rope))
}

/// That a key has the same value in the table `table` and outside of it, where both say something.
fn agree<T: PartialEq + std::fmt::Debug>(
    table: &str,
    key: &str,
    inside: Option<T>,
    outside: Option<T>,
) -> Result<()> {
    if let (Some(inside), Some(outside)) = (&inside, &outside) {
        ensure!(
            inside == outside,
            "{key} is {outside:?}, but in {table} it is {inside:?}: leave one of them out"
        );
    }
    Ok(())
}

fn shown((theta, scaling): &(f64, Option<RopeScaling>)) -> String {
    match scaling {
        None => format!("\"default\" with rope_theta {theta:?}"),
        Some(RopeScaling {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        }) => format!(
            "\"llama3\" with rope_theta {theta:?}, factor {factor:?}, low_freq_factor \
             {low_freq_factor:?}, high_freq_factor {high_freq_factor:?} and \
             original_max_position_embeddings {original_max_position_embeddings}"
        ),
    }
}

impl HfRope {
    /// `original`: the context length of the unscaled frequencies, where the table does not say it.
    fn scaling(self, original: i64) -> Result<Option<RopeScaling>> {
        if let (Some(new), Some(old)) = (&self.rope_type, &self.older_type) {
            ensure!(new == old, "rope_type is \"{new}\", but type, its older name, is \"{old}\"");
        }
        match self.rope_type.or(self.older_type).as_deref() {
            None if self.factor.is_some() => {
                bail!("the rotary embedding has a factor, but no rope_type")
            }
            None | Some("default") => Ok(None),
            Some("llama3") => {
                let need = |name: &str, value: Option<f64>| {
                    value.with_context(|| format!("rope_type \"llama3\" needs {name}"))
                };
                Ok(Some(RopeScaling {
                    factor: need("factor", self.factor)?,
                    low_freq_factor: need("low_freq_factor", self.low_freq_factor)?,
                    high_freq_factor: need("high_freq_factor", self.high_freq_factor)?,
                    original_max_position_embeddings: self
                        .original_max_position_embeddings
                        .unwrap_or(original),
                }))
            }
            Some(other) => {
                bail!("rope_type is \"{other}\", but only \"default\" and \"llama3\" can be loaded")
            }
        }
    }
}
