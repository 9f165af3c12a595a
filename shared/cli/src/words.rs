//! How a setting is written where it is printed, and where ranks compare it.

use clap::ValueEnum;
use serde::{Serialize, Serializer};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

/// Enough to tell two prompts apart, and little enough for a rendezvous message.
const PROMPT_CHARS: usize = 100;

/// The word with which a flag asks for `choice`.
pub fn word(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
}

/// For `#[serde(serialize_with)]`: only whether the path is given. A file may have another path on
/// another host.
///
/// # Errors
/// Those of the serializer.
pub fn whether_given<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|_| GIVEN).serialize(to)
}

/// What stands for a path.
pub(crate) const GIVEN: &str = "";

/// For `#[serde(serialize_with)]`: the text in quotes, or its beginning and a hash of all of it.
///
/// # Errors
/// Those of the serializer.
pub fn shortened<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    let start: String = text.chars().take(PROMPT_CHARS).collect();
    if start.len() == text.len() {
        return to.collect_str(&format_args!("{text:?}"));
    }
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    to.collect_str(&format_args!("{start:?}…, with hash {:016x}", hash.finish()))
}
