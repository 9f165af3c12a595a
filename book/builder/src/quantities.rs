//! The numbers that answers are made of: settings of the runs that the book speaks of, and what the
//! code counts for them.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::formula::Quantities;

/// `book/predict/quantities.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// A prefix, and the configuration file whose settings have it.
    config: std::collections::BTreeMap<String, String>,
    quantity: Vec<Quantity>,
}

/// A number that the code counts. `tests/tests/predict.rs` counts it again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Quantity {
    name: String,
    value: f64,
    /// Flags of a run.
    #[serde(rename = "run")]
    _run: String,
    /// The rank that it is counted for.
    #[serde(rename = "rank", default)]
    _rank: usize,
    /// What is counted.
    #[serde(rename = "is")]
    _is: String,
}

/// All of them by name. Settings of the default run have the names of `configs/tiny.toml`, with
/// underscores: `hidden_size`, `seq_len`; those of another file have its prefix: `big.hidden_size`.
pub fn load(root: &Path) -> Result<Quantities> {
    let path = "book/predict/quantities.toml";
    let text =
        std::fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"))?;
    let file: File = toml::from_str(&text).with_context(|| format!("reading {path}"))?;
    let mut all = settings(root, "configs/tiny.toml", "")?;
    for (prefix, config) in &file.config {
        all.append(&mut settings(root, config, &format!("{prefix}."))?);
    }
    for Quantity { name, value, .. } in file.quantity {
        if all.insert(name.clone(), value).is_some() {
            bail!("{path}: `{name}` is there twice, or is a setting");
        }
    }
    Ok(all)
}

fn settings(root: &Path, config: &str, prefix: &str) -> Result<Quantities> {
    let text =
        std::fs::read_to_string(root.join(config)).with_context(|| format!("reading {config}"))?;
    let table: toml::Table = toml::from_str(&text).with_context(|| format!("reading {config}"))?;
    let mut found = Quantities::new();
    for (key, value) in table.values().filter_map(toml::Value::as_table).flatten() {
        let number = value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
        if let Some(number) = number {
            found.insert(format!("{prefix}{}", key.replace('-', "_")), number);
        }
    }
    Ok(found)
}
