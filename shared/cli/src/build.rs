//! From settings by name to a step's struct of them.

use crate::Settings;
use crate::keys::{Keys, table};
use crate::kinds::Kind;
use crate::layers::Values;
use anyhow::{Context, Result, anyhow, bail, ensure};
use checkpoint::LlamaConfig;
use std::path::Path;
use toml::{Table, Value};

/// The settings, and what the user should know of them, a sentence each.
pub(crate) fn build<C: Settings>(keys: &Keys, mut values: Values) -> Result<(C, Vec<String>)> {
    let hf_model = values.get("hf-model").and_then(Value::as_str).map(Path::new);
    let (model, mut notes) = match hf_model {
        Some(dir) => hugging_face(dir).with_context(|| format!("hf-model {}", dir.display()))?,
        None => (architecture(keys, &values)?, vec![]),
    };
    for key in keys.flags().filter(|key| key.kind == Kind::Number) {
        let Some(number) = values.get(&key.name).and_then(Value::as_float) else { continue };
        ensure!(number.is_finite(), "{} is {number:?}, but must be finite", key.name);
    }
    if let Some(batches) = values.get("eval-batches").filter(|_| values.is_given("eval-batches"))
        && values.get("eval-every").is_none()
    {
        bail!("eval-batches is {batches}, but needs eval-every, which says when to use them");
    }
    follow_lr(&mut values);
    notes.extend(shorten_warmup(&mut values));
    let mut config: C = filled(keys, &values, &model)?;
    if config.common().has_unnamed_tokens() && !values.is_given("sample") {
        values.insert("sample", Value::Integer(0));
        config = filled(keys, &values, &model)?;
    }
    // What a directory says beyond the architecture is no setting.
    let run = config.common().run.clone();
    config.settle(model, run);
    Ok((config, notes))
}

/// The model in `dir`, and what is to be said about its config.
fn hugging_face(dir: &Path) -> Result<(LlamaConfig, Vec<String>)> {
    let (model, notes) = LlamaConfig::from_hf_dir(dir)?;
    let shown = dir.join("config.json");
    Ok((model, notes.iter().map(|note| format!("{}: {note}", shown.display())).collect()))
}

fn architecture(keys: &Keys, values: &Values) -> Result<LlamaConfig> {
    let model = Value::Table(values.table(keys.iter().filter(|key| !key.is_flag())));
    model.try_into().map_err(|error: toml::de::Error| anyhow!("[model]: {}", error.message()))
}

/// The default of min-lr belongs to that of lr, and follows it.
fn follow_lr(values: &mut Values) {
    if let Some(lr) = values.get("lr").and_then(Value::as_float)
        && values.is_given("lr")
        && !values.is_given("min-lr")
    {
        values.insert("min-lr", Value::Float(lr / 10.0));
    }
}

/// A warm-up goes with the number of steps that it was chosen for. Where another number is laid
/// over both (a flag over a file, or either over the defaults), as for a short trial of a long run,
/// it is shortened.
fn shorten_warmup(values: &mut Values) -> Option<String> {
    let number = |name| values.get(name).and_then(Value::as_integer);
    let (steps, warmup) = (number("steps")?, number("warmup")?);
    if warmup <= steps || !values.is_above("steps", "warmup") {
        return None;
    }
    let promised = values.is_given("warmup") && steps > 0;
    values.insert("warmup", Value::Integer(steps));
    promised
        .then(|| format!("warmup is {warmup}, but steps is {steps}: it is shortened to {steps}"))
}

/// The step's struct. A value that has a default is never missing; the error is for whoever edits
/// the defaults.
fn filled<C: Settings>(keys: &Keys, values: &Values, model: &LlamaConfig) -> Result<C> {
    let mut settings = Table::new();
    for key in keys.flags() {
        let Some(part) = &key.part else {
            settings.extend(values.table([key]));
            continue;
        };
        let part = settings.entry(part.as_str()).or_insert_with(|| Value::Table(Table::new()));
        part.as_table_mut().context("a part is a table")?.extend(values.table([key]));
    }
    settings.insert("model".into(), Value::Table(table(model)));
    let settings = Value::Table(settings).try_into::<C>();
    settings.map_err(|error| anyhow!("the settings cannot be filled in: {}", error.message()))
}
