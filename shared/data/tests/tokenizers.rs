//! Text becomes the tokens that Python's `tokenizers` makes of it. `make_tokenizers.py` has written
//! what is read here.

use data::Tokenizer;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizers")
}

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(dir().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Texts, and the tokens that Python makes of each; none where its package panics.
fn pairs<'a>(expected: &'a Value, ids: &'a Value) -> Vec<(&'a str, Option<Vec<u32>>)> {
    let texts = expected["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    let ids = ids.as_array().unwrap().iter();
    texts.zip(ids.map(|ids| serde_json::from_value(ids.clone()).unwrap())).collect()
}

/// The first texts of which we make something else, with both.
fn differences(tokenizer: &Tokenizer, pairs: &[(&str, Option<Vec<u32>>)]) -> Vec<String> {
    let differing = pairs.iter().filter_map(|(text, theirs)| {
        let ours = tokenizer.encode(text).ok();
        (ours != *theirs).then(|| format!("{text:?}: Python {theirs:?}, here {ours:?}"))
    });
    differing.collect()
}

#[test]
fn twenty_families_tokenizers_make_the_tokens_that_python_makes() {
    let expected = read("expected.json");
    let families = expected["families"].as_object().unwrap();
    assert_eq!(families.len(), 20);
    for (name, ids) in families {
        let tokenizer = Tokenizer::from_file(&dir().join(format!("{name}.json"))).unwrap();
        let wrong = differences(&tokenizer, &pairs(&expected, ids));
        assert!(wrong.is_empty(), "{name}, {} texts: {}", wrong.len(), wrong[0]);
    }
}

#[test]
fn hostile_patterns_and_normalizers_make_the_tokens_that_python_makes() {
    let (expected, gpt2) = (read("expected.json"), read("gpt2.json"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut all_wrong = vec![];
    let hostile = expected["hostile"].as_array().unwrap();
    for variant in hostile {
        let mut file = gpt2.clone();
        file[variant["part"].as_str().unwrap()] = variant["what"].clone();
        std::fs::write(&path, file.to_string()).unwrap();
        let wrong = match Tokenizer::from_file(&path) {
            Ok(tokenizer) => differences(&tokenizer, &pairs(&expected, &variant["ids"])),
            Err(refused) => vec![format!("{refused:#}")],
        };
        let which = &variant["what"];
        all_wrong.extend(wrong.first().map(|one| format!("{which}, {}: {one}", wrong.len())));
    }
    assert!(all_wrong.is_empty(), "{} of {}: {all_wrong:#?}", all_wrong.len(), hostile.len());
}

#[test]
fn a_template_that_adds_tokens_adds_none_to_a_text() {
    // Those of a sentence of BERT's, Llama's or T5's, which training text must not be strewn with.
    for name in ["bert", "llama2", "llama3", "roberta", "t5"] {
        let mut file = read(&format!("{name}.json"));
        let with = Tokenizer::from_file(&dir().join(format!("{name}.json"))).unwrap();
        assert!(!file["post_processor"].is_null(), "{name}");
        file["post_processor"] = json!(null);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        std::fs::write(&path, file.to_string()).unwrap();
        let without = Tokenizer::from_file(&path).unwrap();
        let text = "Once upon a time\nthe cat";
        assert_eq!(with.encode(text).unwrap(), without.encode(text).unwrap(), "{name}");
    }
}
