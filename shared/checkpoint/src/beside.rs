//! What lies beside a model's weights: its tokenizer, and how it generates.

use crate::LlamaConfig;
use crate::export::write;
use crate::special_tokens::SpecialTokens;
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION: &str = "generation_config.json";
/// A directory of chat templates beside the usual one.
const TEMPLATES: &str = "additional_chat_templates";

/// The files that transformers, 5 and earlier, writes of a tokenizer, or looks for.
const FILES: [&str; 9] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
];

/// Whether an export may read, or write, a file of this name beside the weights.
pub fn is_beside(name: &str) -> bool {
    FILES.contains(&name) || name == GENERATION
}

/// Removes an earlier export's directory of chat templates.
pub(crate) fn remove_templates(dir: &Path) -> Result<()> {
    let path = dir.join(TEMPLATES);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// Writes into an export in `dir` what transformers needs to turn the tokens of `model` into text
/// and to know where a text ends: the files of `tokenizer`, or else of the model in `hf_model` that
/// it was trained from. Returns `model` with the ids of the tokens that begin and end a text: those
/// that its config does not say, and those of a model that has got another tokenizer, are taken from
/// the tokenizer's files.
pub fn copy_tokenizer(
    dir: &Path,
    model: &LlamaConfig,
    hf_model: Option<&Path>,
    tokenizer: Option<&Path>,
) -> Result<LlamaConfig> {
    let mut model = model.clone();
    let theirs = hf_model.map(|dir| dir.join(TOKENIZER)).filter(|path| path.is_file());
    let is_theirs = match (tokenizer, &theirs) {
        (None, _) => true,
        (Some(path), Some(theirs)) => read(path)? == read(theirs)?,
        (Some(_), None) => false,
    };
    if let (Some(home), true) = (hf_model, is_theirs) {
        copy_files(home, dir)?;
        if let Some(path) = &theirs {
            let special = SpecialTokens::read(path, Some(home), model.vocab_size)?;
            forget_assumed(&mut model.token_ids, &special, home);
            add_missing(&mut model.token_ids, special.ids());
        }
    } else if let Some(path) = tokenizer {
        let home = home_of(path);
        home.as_deref().map_or(Ok(()), |home| copy_files(home, dir))?;
        write(dir, TOKENIZER, &read(path)?)?;
        let special = SpecialTokens::read(path, home.as_deref(), model.vocab_size)?;
        if hf_model.is_none() || !special.ids().is_empty() {
            model.token_ids = special.ids();
        }
        if !dir.join(TOKENIZER_CONFIG).exists() {
            // Without it transformers would know no token that ends a text, and might take the
            // tokenizer for another kind that Llamas have had.
            let mut config = json!({
                "tokenizer_class": "PreTrainedTokenizerFast",
                "clean_up_tokenization_spaces": false,
                "model_max_length": model.max_position_embeddings,
            });
            config.as_object_mut().into_iter().for_each(|config| config.extend(special.names()));
            write(dir, TOKENIZER_CONFIG, &serde_json::to_vec_pretty(&config)?)?;
        }
    }
    generation(dir, &model.token_ids, hf_model, is_theirs)?;
    Ok(model)
}

/// Where the files that belong to the tokenizer `path` lie: beside it, unless they are another's.
pub(crate) fn home_of(path: &Path) -> Option<PathBuf> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let home = parent.unwrap_or(Path::new("."));
    let is_named = path.file_name().is_some_and(|name| name == TOKENIZER);
    (is_named || !home.join(TOKENIZER).exists()).then(|| home.to_owned())
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for name in FILES.iter().filter(|name| from.join(name).is_file()) {
        write(to, name, &read(&from.join(name))?)?;
    }
    let templates = from.join(TEMPLATES);
    if !templates.is_dir() {
        return Ok(());
    }
    let (cannot, copies) = (|| format!("cannot read {}", templates.display()), to.join(TEMPLATES));
    fs::create_dir_all(&copies).with_context(|| format!("cannot make {}", copies.display()))?;
    for entry in fs::read_dir(&templates).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && name.ends_with(".jinja")
        {
            write(&copies, name, &read(&path)?)?;
        }
    }
    Ok(())
}

/// An id that the config of the model in `home` does not say is 1 or 2 to transformers, whatever
/// token that is: its tokenizer knows better, if it knows.
fn forget_assumed(ids: &mut Map<String, Value>, known: &SpecialTokens, home: &Path) {
    let Ok(bytes) = fs::read(home.join("config.json")) else { return };
    let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    ids.retain(|name, _| said.get(name).is_some() || !known.ids().contains_key(name));
}

/// Adds those that are not there, or null.
fn add_missing(ids: &mut Map<String, Value>, known: Map<String, Value>) {
    for (name, id) in known {
        if ids.get(&name).is_none_or(Value::is_null) {
            ids.insert(name, id);
        }
    }
}

/// How the model in `hf_model` generates, or else with which tokens a text begins and ends. The
/// end is also added where that model's file names none, and all `ids` are put in the place of its
/// own if the tokenizer is another.
fn generation(
    dir: &Path,
    ids: &Map<String, Value>,
    hf_model: Option<&Path>,
    is_theirs: bool,
) -> Result<()> {
    let theirs = hf_model.map(|model| model.join(GENERATION)).filter(|path| path.is_file());
    let Some(theirs) = theirs else {
        return match ids.is_empty() {
            true => Ok(()),
            false => write(dir, GENERATION, &serde_json::to_vec_pretty(ids)?),
        };
    };
    let mut bytes = read(&theirs)?;
    if let Ok(mut config) = serde_json::from_slice::<Map<String, Value>>(&bytes) {
        let before = config.clone();
        match is_theirs {
            // It may leave out where a text begins, but not where it ends.
            true => {
                let end = |(name, _): &(String, Value)| name == "eos_token_id";
                add_missing(&mut config, ids.clone().into_iter().filter(end).collect());
            }
            false => config.extend(ids.clone()),
        }
        if config == before {
            return write(dir, GENERATION, &bytes); // to the last space
        }
        bytes = serde_json::to_vec_pretty(&config)?;
    }
    write(dir, GENERATION, &bytes)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
