//! Which tokens begin and end a text.

use crate::beside::home_of;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

/// What tokenizers call the token, where no file beside them says it.
const BEGIN: [&str; 6] =
    ["<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "<｜begin▁of▁sentence｜>", "[BOS]"];
const END: [&str; 6] =
    ["</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>", "<｜end▁of▁sentence｜>", "[EOS]"];

/// What both begins and ends a text where a tokenizer has nothing else to begin one.
const PARTS: &str = "<|endoftext|>";

/// The token that ends a text, and its id, as the files beside the `tokenizer.json` at `path` say
/// or its own list of special tokens; `None` where nothing says it.
///
/// # Errors
/// If the file cannot be read.
pub fn end_token(path: &Path) -> Result<Option<(String, u64)>> {
    Ok(SpecialTokens::read(path, home_of(path).as_deref(), i64::MAX)?.end)
}

/// The tokens that begin and end a text, each with its id; `None` where nothing says which it is.
pub(crate) struct SpecialTokens {
    begin: Option<(String, u64)>,
    end: Option<(String, u64)>,
}

impl SpecialTokens {
    /// Those of the `tokenizer.json` at `path`, as the files in `home` say, or else as they are
    /// called if just one of its special tokens is called so. A token outside of the model's
    /// vocabulary, of `vocab_size`, is none: no model can write it.
    pub fn read(path: &Path, home: Option<&Path>, vocab_size: i64) -> Result<Self> {
        let tokenizer = json(path)?;
        let mut beside = vec![];
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = home.map(|home| home.join(name)).filter(|path| path.is_file());
            beside.extend(path.map(|path| json(&path)).transpose()?);
        }
        let find = |key: &str, names: &[&str]| {
            let said = beside.iter().find_map(|file| file.get(key));
            let name = match said {
                Some(said) => said.as_str().or_else(|| said["content"].as_str())?.to_owned(),
                None => only_one_called(&tokenizer, names)?,
            };
            let id = id_of(&tokenizer, &name)?;
            i64::try_from(id).is_ok_and(|id| id < vocab_size).then_some((name, id))
        };
        let end = find("eos_token", &END);
        // GPT-2's, which parts texts and so stands before each as well.
        let parts = end.clone().filter(|(name, _)| name == PARTS);
        let is_said = beside.iter().any(|file| file.get("bos_token").is_some());
        let begin = find("bos_token", &BEGIN).or(parts.filter(|_| !is_said));
        Ok(Self { begin, end })
    }

    /// As a `config.json` has them.
    pub fn ids(&self) -> Map<String, Value> {
        self.entries("_id", |(_, id)| (*id).into())
    }

    /// As a `tokenizer_config.json` has them.
    pub fn names(&self) -> Map<String, Value> {
        self.entries("", |(name, _)| name.as_str().into())
    }

    fn entries(&self, end: &str, value: fn(&(String, u64)) -> Value) -> Map<String, Value> {
        let all = [("bos_token", &self.begin), ("eos_token", &self.end)];
        let known = all.into_iter().filter_map(|(key, token)| Some((key, token.as_ref()?)));
        known.map(|(key, token)| (format!("{key}{end}"), value(token))).collect()
    }
}

/// The one of a tokenizer's special tokens that has one of these names.
fn only_one_called(tokenizer: &Value, names: &[&str]) -> Option<String> {
    let added = tokenizer["added_tokens"].as_array()?.iter();
    let special = added.filter(|token| token["special"] == true);
    let contents = special.filter_map(|token| token["content"].as_str());
    let mut called = contents.filter(|content| names.contains(content));
    let first = called.next()?;
    called.next().is_none().then(|| first.to_owned())
}

fn id_of(tokenizer: &Value, token: &str) -> Option<u64> {
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let mut added = added.filter(|other| other["content"] == token);
    let vocabulary = &tokenizer["model"]["vocab"];
    let of_model = || match vocabulary {
        // Unigram: a list of tokens with their scores.
        Value::Array(pieces) => {
            pieces.iter().position(|piece| piece[0] == token).map(|id| id as u64)
        }
        other => other[token].as_u64(),
    };
    added.find_map(|other| other["id"].as_u64()).or_else(of_model)
}

/// Null for what is no JSON: a file that is broken says nothing, and no run that has
/// trained ends for it.
fn json(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}
