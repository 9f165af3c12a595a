//! Layers of settings: the defaults, a file over them, flags over both.

use crate::Program;
use crate::args::{Flags, shown};
use crate::keys::{self, KEYS, Key};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::BTreeMap;
use std::num::IntErrorKind;
use std::path::Path;
use toml::{Table, Value};

/// Settings by name, each of its key's kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    of: BTreeMap<&'static str, Value>,
    /// What the run was given, as opposed to its defaults, and by which of the layers that were laid
    /// over them: the highest counts.
    given: BTreeMap<&'static str, usize>,
    layers: usize,
}

impl Values {
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.of.get(name)
    }

    pub fn insert(&mut self, key: &Key, value: Value) {
        self.of.insert(key.name, value);
    }

    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Whether `name` was given by a layer above the one that gave `other`, or only `name` was given.
    pub fn is_above(&self, name: &str, other: &str) -> bool {
        self.given.get(name) > self.given.get(other)
    }

    /// The settings of one table, as a table.
    pub fn table(&self, table: &str) -> Table {
        let keys = KEYS.iter().filter(|key| key.table == table);
        keys.filter_map(|key| Some((key.name.to_owned(), self.get(key.name)?.clone()))).collect()
    }

    fn lay_over(&mut self, upper: Values) {
        self.layers += 1;
        self.given.extend(upper.of.keys().map(|name| (*name, self.layers)));
        self.of.extend(upper.of);
    }

    fn remove_architecture(&mut self) {
        self.of.retain(|name, _| !is_architecture(name));
    }
}

fn is_architecture(name: &str) -> bool {
    keys::find(name).is_some_and(|key| key.table == "model" && !key.is_flag())
}

/// The file of the defaults, which is part of the binary, so that it runs anywhere.
pub(crate) const DEFAULTS: &str = "configs/tiny.toml";
const DEFAULTS_TEXT: &str = include_str!("../../../configs/tiny.toml");

/// The settings of a run that is given none.
pub(crate) fn defaults(program: &Program) -> Result<Values> {
    let mut values = read(DEFAULTS_TEXT).context(DEFAULTS)?;
    let layout = &program.layout;
    for (name, n) in [("dp", layout.dp), ("pp", layout.pp), ("cp", layout.cp), ("tp", layout.tp)] {
        let key = keys::find(name).context(name)?;
        values.insert(key, Value::Integer(i64::try_from(n)?));
    }
    if layout.world() > 2 {
        // More ranks than a laptop has cores: a run of the usual length would take more than a
        // minute.
        values.insert(keys::find("steps").context("steps")?, Value::Integer(200));
    }
    Ok(values)
}

/// All layers as one.
pub(crate) fn merge(program: &Program, flags: Flags) -> Result<Values> {
    let mut values = defaults(program)?;
    let told = |values: &Values| values.is_given("hf-model");
    if let Some(path) = &flags.config {
        let file = read_file(path, program, &values)
            .with_context(|| format!("config {}", path.display()))?;
        values.lay_over(file);
        if told(&values)
            && let Some(name) = values.given.keys().find(|name| is_architecture(name))
        {
            bail!(
                "config {}: [model] has both hf-model and {name}; hf-model gives the whole architecture",
                path.display()
            );
        }
    }
    values.lay_over(flags.values);
    if told(&values) {
        values.remove_architecture();
    }
    Ok(values)
}

fn read_file(path: &Path, program: &Program, defaults: &Values) -> Result<Values> {
    let values = read(&std::fs::read_to_string(path).context("cannot be read")?)?;
    for (name, value) in &values.of {
        let Some(key) = keys::find(name) else { continue };
        // A copy of the defaults suits every step: a later step's key may stand if it asks for
        // nothing.
        let neutral = match *name {
            "dp" | "pp" | "cp" | "tp" => *value == Value::Integer(1),
            _ => defaults.get(name) == Some(value) || *value == Value::Boolean(false),
        };
        let (table, since, step) = (key.table, key.since, program.step);
        ensure!(
            since <= step || neutral,
            "[{table}] {name} is {value}, but {name} comes with step{since:02} and this is step{step:02}"
        );
    }
    Ok(values)
}

fn read(text: &str) -> Result<Values> {
    let tables: Table = toml::from_str(text).map_err(|error| syntax(text, &error))?;
    let mut values = Values::default();
    for (table, entries) in tables {
        let known = ["model", "data", "train", "parallel", "run"];
        let is_known = known.contains(&table.as_str());
        let Value::Table(entries) = entries else {
            ensure!(
                !is_known,
                "{table} is {entries}, but must be a table: write [{table}], and its keys below it"
            );
            match keys::find(&table) {
                Some(key) => bail!("{table} is outside any table, but belongs in [{}]", key.table),
                None => bail!("unknown key {}{}", shown(&table), did_you_mean(&table, all_names())),
            }
        };
        if !is_known {
            bail!("unknown table [{}]{}", shown(&table), did_you_mean(&table, known));
        }
        for (name, value) in entries {
            let Some(key) = keys::find(&name) else {
                let near = did_you_mean(&name, all_names());
                bail!("unknown key {} in [{table}]{near}", shown(&name));
            };
            let belongs = key.table;
            ensure!(belongs == table, "{name} belongs in [{belongs}], not in [{table}]");
            let shown = value.to_string();
            let value = key
                .check(value)
                .map_err(|need| anyhow!("[{table}] {name} is {shown}, but {need}"))?;
            values.insert(key, value);
        }
    }
    Ok(values)
}

fn all_names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
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

/// The known word that `name` may be a misspelling of, if one is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.to_lowercase().replace('_', "-");
    let distance = |word: &str| strsim::damerau_levenshtein(&plain(name), &plain(word));
    let (distance, word) = known.into_iter().map(|word| (distance(word), word)).min()?;
    (distance <= 1 + name.len() / 4).then_some(word)
}
