//! A file of settings.

use super::{Values, nearest};
use crate::args::shown;
use crate::keys::{Keys, TABLES};
use crate::later;
use anyhow::{Result, anyhow, bail, ensure};
use std::collections::BTreeMap;
use std::num::IntErrorKind;
use toml::{Table, Value};

/// What stands in a file.
pub(super) struct Read {
    pub values: Values,
    /// Settings of later steps, by name; nobody has checked their values.
    pub later: BTreeMap<String, Value>,
}

/// Reads the settings of `step`, which are `keys`.
pub(super) fn read(text: &str, step: u8, keys: &Keys) -> Result<Read> {
    let tables: Table = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    let mut read = Read { values: Values::default(), later: BTreeMap::new() };
    // The table of a setting, of this step or a later one.
    let table_of = |name: &str| {
        let own = keys.find(name).map(|key| key.table.as_str());
        own.or(later::find(step, name).map(|later| later.table))
    };
    let names = || {
        let later = later::later_than(step).map(|later| later.name);
        keys.iter().map(|key| key.name.as_str()).chain(later)
    };
    for (table, entries) in tables {
        let is_known = TABLES.contains(&table.as_str());
        let Value::Table(entries) = entries else {
            ensure!(
                !is_known,
                "{table} is {entries}, but must be a table: write [{table}], and its keys below it"
            );
            match table_of(&table) {
                Some(belongs) => bail!("{table} is outside any table, but belongs in [{belongs}]"),
                None => bail!("unknown key {}{}", shown(&table), did_you_mean(&table, names())),
            }
        };
        if !is_known {
            bail!("unknown table [{}]{}", shown(&table), did_you_mean(&table, TABLES));
        }
        for (name, value) in entries {
            let Some(belongs) = table_of(&name) else {
                let near = did_you_mean(&name, names());
                bail!("unknown key {} in [{table}]{near}", shown(&name));
            };
            ensure!(belongs == table, "{name} belongs in [{belongs}], not in [{table}]");
            let Some(key) = keys.find(&name) else {
                read.later.insert(name, value);
                continue;
            };
            let shown = value.to_string();
            let value = key
                .kind
                .check(value)
                .map_err(|need| anyhow!("[{table}] {name} is {shown}, but {need}"))?;
            read.values.insert(&name, value);
        }
    }
    Ok(read)
}

fn syntax(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    let value = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    if value.parse::<i64>().is_err_and(|error| *error.kind() == IntErrorKind::PosOverflow) {
        return anyhow!("line {line} has {value}, but a whole number must be at most {}", i64::MAX);
    }
    let message = error.message().replace('\n', ", ");
    anyhow!("line {line} is not TOML: {message}")
}

fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or(String::new(), |other| format!(": did you mean {other}?"))
}
