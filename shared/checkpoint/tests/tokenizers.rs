//! An export has what transformers needs to turn its tokens into text, and nothing of another one.

use checkpoint::{LlamaConfig, copy_tokenizer, finish_weights};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tch::Kind;

/// As transformers saved it: bos is 3 and eos 4.
fn saved() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny-tokenizer")
}

const FILES: [&str; 4] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "additional_chat_templates/tool_use.jinja",
];

fn model() -> LlamaConfig {
    let config = r#"{"vocab_size": 280, "hidden_size": 24, "intermediate_size": 32,
        "num_hidden_layers": 8, "num_attention_heads": 4, "bos_token_id": null, "eos_token_id": null}"#;
    LlamaConfig::from_hf_json(config).unwrap().0
}

fn read(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap()
}

/// The ids in the config.json of an export with these files, and its generation_config.json.
fn exported(
    to: &Path,
    model: &LlamaConfig,
    hf_model: Option<&Path>,
    tokenizer: Option<&Path>,
) -> ([Value; 2], Option<Value>) {
    copy_tokenizer(to, model, hf_model, tokenizer).unwrap().write_hf(to, Kind::Float).unwrap();
    let config = read(to, "config.json");
    // Left out, transformers takes them for 1 and 2.
    let ids = ["bos_token_id", "eos_token_id"].map(|name| config.get(name).unwrap().clone());
    let generation = "generation_config.json";
    (ids, to.join(generation).exists().then(|| read(to, generation)))
}

#[test]
fn everything_of_a_tokenizer_goes_along_and_says_where_a_text_ends() {
    let to = tempfile::tempdir().unwrap();
    let ids = json!({"bos_token_id": 3, "eos_token_id": 4});
    let tokenizer = saved().join("tokenizer.json");
    let (config, generation) = exported(to.path(), &model(), None, Some(&tokenizer));
    assert_eq!((config, generation), ([3.into(), 4.into()], Some(ids)));
    for name in FILES {
        let [ours, theirs] = [to.path(), &saved()].map(|dir| fs::read(dir.join(name)).unwrap());
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn a_tokenizer_alone_says_it_by_the_names_of_its_special_tokens() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let text = fs::read_to_string(saved().join("tokenizer.json")).unwrap();
    let path = from.path().join("my.json");
    let run = |text: &str| {
        fs::write(&path, text).unwrap();
        fs::remove_dir_all(to.path()).unwrap();
        fs::create_dir(to.path()).unwrap();
        let ids = exported(to.path(), &model(), None, Some(&path));
        (ids, read(to.path(), "tokenizer_config.json"))
    };
    let ((ids, _), config) = run(&text);
    assert_eq!(ids, [3, 4].map(Value::from));
    assert_eq!((&config["bos_token"], &config["eos_token"]), (&json!("<s>"), &json!("</s>")));
    // The class that reads a tokenizer.json as it stands there.
    assert_eq!(config["tokenizer_class"], "PreTrainedTokenizerFast");
    assert_eq!(fs::read_to_string(to.path().join("tokenizer.json")).unwrap(), text);

    // Two that may end a text, or none that is known to: nothing is said.
    let ((ids, generation), config) = run(&text.replace("<user>", "<|endoftext|>"));
    assert_eq!((ids, config.get("eos_token")), ([3.into(), Value::Null], None));
    assert_eq!(generation, Some(json!({"bos_token_id": 3})));
    let ((ids, generation), _) = run(&text.replace("<s>", "<a>").replace("</s>", "</a>"));
    assert_eq!((ids, generation), ([Value::Null, Value::Null], None));
    // An ordinary word of that name is none.
    let ((ids, _), _) = run(&text.replace(r#""special": true"#, r#""special": false"#));
    assert_eq!(ids, [Value::Null, Value::Null]);

    // What lies beside it knows better, in either way to write it.
    let user = r#"{"bos_token": null, "eos_token": {"content": "<user>", "lstrip": false}}"#;
    fs::write(from.path().join("special_tokens_map.json"), user).unwrap();
    assert_eq!(run(&text).0.0, [Value::Null, 1.into()]);
    fs::write(from.path().join("tokenizer_config.json"), r#"{"eos_token": "<assistant>"}"#)
        .unwrap();
    assert_eq!(run(&text).0.0, [Value::Null, 2.into()]);
    // Unless it is another tokenizer's.
    fs::write(from.path().join("tokenizer.json"), "{}").unwrap();
    assert_eq!(run(&text).0.0, [3, 4].map(Value::from));
    // No model writes a token that is not in its vocabulary.
    fs::write(&path, &text).unwrap();
    let small = LlamaConfig { vocab_size: 4, ..model() };
    assert_eq!(exported(to.path(), &small, None, Some(&path)).0, [3.into(), Value::Null]);
}

#[test]
fn a_model_keeps_its_own_tokenizer_s_ids_and_gets_those_of_another() {
    let [from, to, own] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mut trained = model();
    trained.token_ids =
        json!({"bos_token_id": 7, "eos_token_id": [8, 9]}).as_object().unwrap().clone();
    let generation = json!({"eos_token_id": [8, 9], "temperature": 0.6});
    fs::write(from.path().join("generation_config.json"), generation.to_string()).unwrap();
    fs::write(from.path().join("chat_template.jinja"), "theirs").unwrap();
    fs::copy(saved().join("tokenizer.json"), from.path().join("tokenizer.json")).unwrap();
    let theirs = ([7.into(), json!([8, 9])], Some(generation));
    let run = |tokenizer: Option<&Path>| {
        fs::remove_dir_all(to.path()).unwrap();
        fs::create_dir(to.path()).unwrap();
        exported(to.path(), &trained, Some(from.path()), tokenizer)
    };
    let template = || fs::read_to_string(to.path().join("chat_template.jinja")).ok();
    assert_eq!(run(None), theirs);
    // The same tokenizer in another place is still the model's.
    assert_eq!(run(Some(&saved().join("tokenizer.json"))), theirs);
    assert_eq!(template().as_deref(), Some("theirs"));
    let text = fs::read_to_string(saved().join("tokenizer.json")).unwrap();
    let other = own.path().join("tokenizer.json");
    fs::write(&other, text.replace("<user>", "<other>")).unwrap();
    let generation = json!({"bos_token_id": 3, "eos_token_id": 4, "temperature": 0.6});
    assert_eq!(run(Some(&other)), ([3, 4].map(Value::from), Some(generation)));
    assert_eq!(template(), None, "another tokenizer's template");
}

#[test]
fn a_model_whose_config_names_no_end_gets_it_from_its_tokenizer() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    fs::copy(saved().join("tokenizer.json"), from.path().join("tokenizer.json")).unwrap();
    let run = |ids: Value, generation: Option<Value>| {
        let mut trained = model();
        trained.token_ids = ids.as_object().unwrap().clone();
        let _ = fs::remove_file(from.path().join("generation_config.json"));
        if let Some(generation) = generation {
            fs::write(from.path().join("generation_config.json"), generation.to_string()).unwrap();
        }
        fs::remove_dir_all(to.path()).unwrap();
        fs::create_dir(to.path()).unwrap();
        exported(to.path(), &trained, Some(from.path()), None)
    };
    let both = json!({"bos_token_id": 3, "eos_token_id": 4});
    assert_eq!(run(json!({}), None), ([3.into(), 4.into()], Some(both)));
    // What it says counts, and what it does not say is added.
    let sampling = json!({"temperature": 0.6, "eos_token_id": null});
    let added = json!({"temperature": 0.6, "eos_token_id": 4});
    assert_eq!(
        run(json!({"bos_token_id": 7, "eos_token_id": null}), Some(sampling)),
        ([7.into(), 4.into()], Some(added))
    );
    // What transformers assumes where nothing is said, is no token of this tokenizer's.
    fs::write(from.path().join("config.json"), r#"{"bos_token_id": 1}"#).unwrap();
    let assumed = json!({"bos_token_id": 1, "eos_token_id": 2});
    assert_eq!(run(assumed, None).0, [1, 4].map(Value::from));
}

#[test]
fn a_token_that_parts_texts_also_begins_one_unless_another_does() {
    let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let text = fs::read_to_string(saved().join("tokenizer.json")).unwrap();
    let text = text.replace("</s>", "<|endoftext|>");
    let path = from.path().join("tokenizer.json");
    let run = |text: &str| {
        fs::write(&path, text).unwrap();
        exported(to.path(), &model(), None, Some(&path)).0
    };
    assert_eq!(run(&text), [3, 4].map(Value::from));
    assert_eq!(run(&text.replace("<s>", "<a>")), [4, 4].map(Value::from));
    let end = checkpoint::end_token(&path).unwrap();
    assert_eq!(end, Some(("<|endoftext|>".into(), 4)));
    fs::write(from.path().join("tokenizer_config.json"), r#"{"bos_token": null}"#).unwrap();
    assert_eq!(run(&text.replace("<s>", "<a>")), [Value::Null, 4.into()]);
}

#[test]
fn nothing_of_an_earlier_export_is_left() {
    let to = tempfile::tempdir().unwrap();
    let tokenizer = saved().join("tokenizer.json");
    exported(to.path(), &model(), None, Some(&tokenizer));
    for name in
        ["special_tokens_map.json", "tokenizer.model", ".tokenizer.json.partial", "notes.txt"]
    {
        fs::write(to.path().join(name), "").unwrap();
    }
    let weights = [("a".to_owned(), tch::Tensor::zeros([2], (Kind::Float, tch::Device::Cpu)))];
    let entries = checkpoint::write_weights(to.path(), 0, 1, &weights).unwrap();
    finish_weights(to.path(), &entries).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["model.safetensors", "notes.txt"]);
    // A model of bytes has no token that ends a text, and no transformers finds one.
    assert_eq!(exported(to.path(), &model(), None, None), ([Value::Null, Value::Null], None));
}
