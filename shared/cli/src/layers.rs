//! Layers of settings: the defaults, a file over them, flags over both.

mod file;

use crate::args::Flags;
use crate::keys::{Key, Keys};
use crate::{Program, later};
use anyhow::{Context, Result, bail, ensure};
use file::{Read, read};
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

/// Settings by name, each of its key's kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    of: BTreeMap<String, Value>,
    /// What the run was given, as opposed to its defaults, and by which of the layers that were
    /// laid over them: the highest counts.
    given: BTreeMap<String, usize>,
    layers: usize,
}

impl Values {
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.of.get(name)
    }

    pub fn insert(&mut self, name: &str, value: Value) {
        self.of.insert(name.to_owned(), value);
    }

    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Whether `name` was given by a layer above the one that gave `other`, or only
    /// `name` was given.
    pub fn is_above(&self, name: &str, other: &str) -> bool {
        self.given.get(name) > self.given.get(other)
    }

    /// The values of these keys, as a table.
    pub fn table<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> Table {
        let entry = |key: &Key| Some((key.name.clone(), self.get(&key.name)?.clone()));
        keys.into_iter().filter_map(entry).collect()
    }

    fn lay_over(&mut self, upper: Values) {
        self.layers += 1;
        self.given.extend(upper.of.keys().map(|name| (name.clone(), self.layers)));
        self.of.extend(upper.of);
    }
}

fn is_architecture(key: &Key) -> bool {
    key.table == "model" && !key.is_flag()
}

/// The file of the defaults, which is part of the binary, so that it runs anywhere.
pub(crate) const DEFAULTS: &str = "configs/tiny.toml";
const DEFAULTS_TEXT: &str = include_str!("../../../configs/tiny.toml");

/// The settings of a run that is given none.
pub(crate) fn defaults(program: &Program, keys: &Keys) -> Result<Values> {
    let mut values = Values::default();
    for key in keys.iter() {
        if let Some(default) = &key.default {
            values.insert(&key.name, default.clone());
        }
    }
    values.of.extend(read(DEFAULTS_TEXT, program.step, keys).context(DEFAULTS)?.values.of);
    let layout = &program.layout;
    for (name, n) in [("dp", layout.dp), ("pp", layout.pp), ("cp", layout.cp), ("tp", layout.tp)] {
        if keys.find(name).is_some() {
            values.insert(name, Value::Integer(i64::try_from(n)?));
        }
    }
    if layout.world() > 2 {
        // More ranks than a laptop has cores: a run of the usual length would take
        // more than a minute.
        values.insert("steps", Value::Integer(200));
    }
    Ok(values)
}

/// All layers as one.
pub(crate) fn merge(
    program: &Program,
    keys: &Keys,
    defaults: Values,
    flags: Flags,
) -> Result<Values> {
    let mut values = defaults;
    let told = |values: &Values| values.is_given("hf-model");
    if let Some(path) = &flags.config {
        let file =
            read_file(path, program, keys).with_context(|| format!("config {}", path.display()))?;
        values.lay_over(file);
        let given = |key: &&Key| is_architecture(key) && values.is_given(&key.name);
        if told(&values)
            && let Some(key) = keys.iter().find(given)
        {
            bail!(
                "config {}: [model] has both hf-model and {}; hf-model gives the whole architecture",
                path.display(),
                key.name
            );
        }
    }
    values.lay_over(flags.values);
    Ok(values)
}

fn read_file(path: &Path, program: &Program, keys: &Keys) -> Result<Values> {
    let step = program.step;
    let Read { values, later } =
        read(&std::fs::read_to_string(path).context("cannot be read")?, step, keys)?;
    let defaults = read(DEFAULTS_TEXT, step, keys).context(DEFAULTS)?.later;
    for (name, value) in &later {
        let Some(later::Later { since, table, .. }) = later::find(step, name) else { continue };
        // A copy of the defaults suits every step: a later step's key may stand if it
        // asks for nothing.
        let neutral = match name.as_str() {
            "dp" | "pp" | "cp" | "tp" => *value == Value::Integer(1),
            _ => defaults.get(name) == Some(value) || *value == Value::Boolean(false),
        };
        ensure!(
            neutral,
            "[{table}] {name} is {value}, but {name} comes with step{since:02} and this is step{step:02}"
        );
    }
    Ok(values)
}

/// The known word that `name` may be a misspelling of, if one is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace('_', "-");
    let distance = |word: &str| strsim::damerau_levenshtein(&plain(name), &plain(word));
    let (distance, word) = known.into_iter().map(|word| (distance(word), word)).min()?;
    (distance <= 1 + name.len() / 4).then_some(word)
}
