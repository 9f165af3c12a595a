//! The settings of a step by name, as its types declare them: in which table of a file each one
//! stands, what it may be, and in which struct it ends up.

use crate::Settings;
use crate::kinds::Kind;
use checkpoint::{LlamaConfig, RopeScaling};
use clap::{Arg, Command};
use toml::{Table, Value};

/// A setting.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub table: String,
    pub name: String,
    pub kind: Kind,
    /// The field of the settings that holds the struct it belongs to: clap has a group for each
    /// such struct. `None`: it is a field of the settings itself.
    pub part: Option<String>,
    /// What clap calls its flag; empty for what a configuration file alone can set.
    pub id: String,
    /// Its value where nothing says another, as its field says it.
    pub default: Option<Value>,
}

impl Key {
    /// Whether there is a flag for it.
    pub fn is_flag(&self) -> bool {
        !self.id.is_empty()
    }
}

/// Every setting of a step.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Vec<Key>);

/// Tables of a configuration file.
pub(crate) const TABLES: [&str; 5] = ["model", "data", "train", "parallel", "run"];

impl Keys {
    pub fn of<C: Settings>() -> Self {
        let command = C::augment_args(Command::new(""));
        let flags = command.get_arguments().map(|arg| flag(&command, arg));
        Self(architecture().chain(flags).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    pub fn flags(&self) -> impl Iterator<Item = &Key> {
        self.iter().filter(|key| key.is_flag())
    }

    pub fn find(&self, name: &str) -> Option<&Key> {
        self.iter().find(|key| key.name == name)
    }
}

/// The key that a field of the settings declares. What it says wrongly is told to
/// whoever writes it.
fn flag(command: &Command, arg: &Arg) -> Key {
    let name = arg.get_long().unwrap_or_else(|| panic!("{} needs #[arg(long)]", arg.get_id()));
    let heading = arg.get_help_heading().unwrap_or_default();
    let table = heading.trim_matches(['[', ']']);
    assert!(TABLES.contains(&table), "{name}: its help heading {heading:?} is no table of a file");
    let holds = |group: &&clap::ArgGroup| group.get_args().any(|id| id == arg.get_id());
    let part = command.get_groups().find(holds).map(|group| group.get_id().as_str().to_lowercase());
    let kind = Kind::of(arg);
    let default = arg.get_default_values().first().and_then(|text| text.to_str());
    let default = if kind == Kind::Switch { Some("false") } else { default };
    Key {
        table: table.into(),
        name: name.into(),
        default: default.map(|text| kind.read(text)),
        kind,
        part,
        id: arg.get_id().to_string(),
    }
}

/// The keys of the model, which no flag sets.
fn architecture() -> impl Iterator<Item = Key> {
    let key = |(name, example): (String, Value)| Key {
        table: "model".into(),
        name,
        kind: Kind::like(&example),
        part: Some("model".into()),
        id: String::new(),
        default: None,
    };
    table(&complete()).into_iter().map(key)
}

/// A model of which every field says something.
fn complete() -> LlamaConfig {
    let rope = RopeScaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 64,
    };
    spelt_out(&LlamaConfig { rope_scaling: Some(rope), ..LlamaConfig::default() })
}

/// The model with what it leaves to a default: two that compute the same become equal.
pub(crate) fn spelt_out(model: &LlamaConfig) -> LlamaConfig {
    let heads = model.num_attention_heads;
    let head_dim = if heads == 0 { 0 } else { model.head_dim() };
    LlamaConfig {
        num_key_value_heads: Some(model.kv_heads()),
        head_dim: Some(head_dim),
        ..model.clone()
    }
}

/// The model as a table of a configuration file.
pub(crate) fn table(model: &LlamaConfig) -> Table {
    Table::try_from(model).expect("numbers under names")
}
