//! Settings that must be the same on all ranks of a run.

use crate::Settings;
use crate::keys::{Key, Keys, spelt_out, table};
use crate::words::GIVEN;
use serde_json::Value;

/// Every setting that serde writes, as a phrase such as `lr 0.001`; the layout, which ranks compare
/// as such, is left out. Always the same names in the same order.
pub(crate) fn phrases<C: Settings>(keys: &Keys, config: &C) -> Vec<String> {
    let written = written(config);
    let phrase = |key: &Key| Some(phrase(&key.name, written.get(key)?));
    keys.iter().filter(|key| !is_layout(&key.name)).filter_map(phrase).collect()
}

fn is_layout(name: &str) -> bool {
    ["dp", "pp", "cp", "tp"].contains(&name)
}

/// The settings as serde writes them.
pub(crate) struct Written(Value);

pub(crate) fn written<C: Settings>(config: &C) -> Written {
    let mut settings = serde_json::to_value(config).expect("numbers and words under names");
    let model = table(&spelt_out(config.common().model));
    settings["model"] = serde_json::to_value(model).expect("numbers under names");
    Written(settings)
}

impl Written {
    /// `None` for what serde skips. A field of the model that is absent is null.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        let part = key.part.as_ref().map_or(Some(&self.0), |part| self.0.get(part))?;
        part.get(&key.name).or((!key.is_flag()).then_some(&Value::Null))
    }
}

fn phrase(name: &str, value: &Value) -> String {
    match value {
        Value::Null => format!("no {name}"),
        Value::String(text) if text == GIVEN => name.to_owned(),
        value => format!("{name} {}", shown(value)),
    }
}

/// As a person writes it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:?}", number.as_f64().unwrap()),
        value => value.to_string(),
    }
}
