//! What a setting's value may be, and the sentence where it is not.

use checkpoint::RopeScaling;
use clap::Arg;
use std::any::TypeId;
use std::num::IntErrorKind::PosOverflow;
use std::path::PathBuf;
use toml::Value;

/// What a setting's value may be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A whole number from 0 up.
    Count,
    Number,
    Text,
    /// A text that says something.
    Path,
    Switch,
    Choice(Vec<String>),
    /// The fields of [`RopeScaling`].
    Rope,
}

use Kind::{Choice, Count, Number, Path, Rope, Switch, Text};

impl Kind {
    /// What a flag takes, by the type of its field.
    pub fn of(arg: &Arg) -> Self {
        let field = arg.get_value_parser().type_id();
        if field == TypeId::of::<bool>() {
            Switch
        } else if field == TypeId::of::<f64>() {
            Number
        } else if field == TypeId::of::<usize>() || field == TypeId::of::<u64>() {
            Count
        } else if field == TypeId::of::<PathBuf>() {
            Path
        } else if field == TypeId::of::<String>() {
            Text
        } else {
            let values = arg.get_possible_values();
            assert!(!values.is_empty(), "{}: no setting has a value of this type", arg.get_id());
            Choice(values.iter().map(|value| value.get_name().to_owned()).collect())
        }
    }

    /// The kind of which `example` is one.
    pub fn like(example: &Value) -> Self {
        match example {
            Value::Integer(_) => Count,
            Value::Float(_) => Number,
            Value::Boolean(_) => Switch,
            Value::Table(_) => Rope,
            _ => Path,
        }
    }

    /// The value as its kind keeps it, or what it must be: "must be a whole number".
    pub fn check(&self, value: Value) -> Result<Value, String> {
        match (self, value) {
            (Count, Value::Integer(n)) if n >= 0 => Ok(Value::Integer(n)),
            (Count, Value::Integer(_)) => Err("must not be negative".into()),
            // A whole number, but beyond what is kept.
            (Count, Value::String(s))
                if s.parse::<i64>().is_err_and(|e| *e.kind() == PosOverflow) =>
            {
                Err(format!("must be at most {}", i64::MAX))
            }
            (Count, _) => Err("must be a whole number".into()),
            (Number, Value::Integer(n)) => Ok(Value::Float(n as f64)),
            (Number, value @ Value::Float(_)) => Ok(value),
            (Number, _) => Err("must be a number".into()),
            (Switch, value @ Value::Boolean(_)) => Ok(value),
            (Switch, _) => Err("must be true or false".into()),
            (Path, Value::String(s)) if s.is_empty() => Err("must not be empty".into()),
            (Path | Text, value @ Value::String(_)) => Ok(value),
            (Path | Text, _) => Err("must be text in quotes".into()),
            (Choice(names), Value::String(s)) if names.contains(&s) => Ok(Value::String(s)),
            (Choice(names), _) => Err(format!("must be {}", either(names))),
            (Rope, value @ Value::Table(_)) => match value.clone().try_into::<RopeScaling>() {
                Ok(_) => Ok(value),
                Err(error) => Err(format!("that is not valid: {}", error.message())),
            },
            (Rope, _) => Err("must be a table".into()),
        }
    }

    /// The value of a flag's text; if it has none, the text itself, for `check` to refuse.
    pub fn read(&self, text: &str) -> Value {
        let text_itself = || Value::String(text.into());
        match self {
            Count => text.parse().map_or_else(|_| text_itself(), Value::Integer),
            Number => text.parse().map_or_else(|_| text_itself(), Value::Float),
            Switch => text.parse().map_or_else(|_| text_itself(), Value::Boolean),
            _ => text_itself(),
        }
    }
}

/// "a", "a or b", "a, b or c".
fn either(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
