//! Which directories of Hugging Face a run may start from.

mod steps;

use checkpoint::LlamaConfig;
use cli::Refusal;
use insta::assert_snapshot;
use std::path::Path;
use steps::{Config, program, step06};
use tch::{Device, Kind, Tensor};

/// The sentence with which step01 refuses `dir` as its --hf-model; the directory is DIR in it.
fn refused(dir: &Path) -> String {
    refused_with(dir, "")
}

/// As [`refused`], with more flags.
fn refused_with(dir: &Path, more: &str) -> String {
    let args = format!("--hf-model DIR {more}").replace("DIR", dir.to_str().unwrap());
    match steps::parse(&program(1), args.split_whitespace(), |_| None) {
        Err(Refusal::Invalid(sentence)) => sentence.replace(dir.to_str().unwrap(), "DIR"),
        Err(Refusal::Help(text)) => panic!("{text}"),
        Ok(_) => panic!("{} was taken", dir.display()),
    }
}

fn write(dir: &Path, weights: &[(String, Vec<i64>)]) {
    let zeros = |shape: &Vec<i64>| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let weights: Vec<_> = weights.iter().map(|(name, shape)| (name, zeros(shape))).collect();
    Tensor::write_safetensors(&weights, dir.join("model.safetensors")).unwrap();
}

#[test]
fn its_weights_are_those_of_its_config_and_its_text_is_that_of_its_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let config = r#"{"vocab_size": 300, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 4, "max_position_embeddings": 256, "rms_norm_eps": 1e-5}"#;
    std::fs::write(dir.join("config.json"), config).unwrap();
    std::fs::write(dir.join("model.safetensors"), "torn").unwrap();
    assert_snapshot!(refused(dir), @"hf-model DIR: DIR/model.safetensors is not a whole safetensors file: header too small");
    let mut weights: Vec<_> = LlamaConfig::from_hf_dir(dir).unwrap().0.weights().collect();
    let last = weights.pop().unwrap();
    write(dir, &weights);
    assert_snapshot!(refused(dir), @"hf-model DIR: weight lm_head.weight is not in the model's files");
    weights.push((last.0, vec![300, 32]));
    write(dir, &weights);
    assert_snapshot!(refused(dir), @"hf-model DIR: weight lm_head.weight has shape [300, 32] where the config says [300, 64]");
    weights.last_mut().unwrap().1 = last.1;
    write(dir, &weights);
    for file in ["config.json", "model.safetensors"] {
        let sentence = refused_with(dir, &format!("--metrics DIR/{file}"));
        let expected = "would overwrite hf-model: name another file";
        assert_eq!(sentence, format!("metrics DIR/{file} {expected}"));
    }
    std::fs::write(dir.join("tokenizer.json"), "").unwrap();
    assert_snapshot!(refused(dir), @"hf-model DIR has a tokenizer, and text without one is bytes: use --tokenizer DIR/tokenizer.json");
}

/// A whole model in `dir`/hf, of bytes, with these keys in its config.
fn model(dir: &Path, keys: &str) {
    let hf = dir.join("hf");
    std::fs::create_dir_all(&hf).unwrap();
    let config = r#"{"vocab_size": 256, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2"#;
    std::fs::write(hf.join("config.json"), format!("{config}{keys}}}")).unwrap();
    write(&hf, &LlamaConfig::from_hf_dir(&hf).unwrap().0.weights().collect::<Vec<_>>());
}

/// What step06 makes of `args`, where DIR is `dir`.
fn parse(dir: &Path, args: &str) -> Result<cli::Start<Config>, String> {
    let shown = dir.to_str().unwrap();
    let args = args.split_whitespace().map(|arg| arg.replace("DIR", shown));
    step06(args).map_err(|refusal| refusal.to_string().replace(shown, "DIR"))
}

#[test]
fn an_export_overwrites_nothing_that_the_run_reads() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    model(dir, "");
    let at = |name: &str| dir.join(name);
    for name in ["text", "blobs", "snapshot", "new"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/tiny-tokenizer/tokenizer.json");
    std::fs::copy(&tokenizer, at("text/tokenizer.json")).unwrap();
    std::fs::write(at("text/a.txt"), "word ".repeat(400)).unwrap();
    std::fs::write(at("text/run.toml"), "[model]\nvocab_size = 280").unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(at(to), at(name)).unwrap();
    link("hf", "link");
    // As in a cache of models: what a link leads to is replaced, or the link itself.
    std::fs::rename(at("hf/model.safetensors"), at("blobs/model.safetensors")).unwrap();
    link("blobs/model.safetensors", "hf/model.safetensors");
    link("text/tokenizer.json", "snapshot/tokenizer.json");
    std::fs::create_dir(at("templates")).unwrap();
    std::fs::write(at("templates/a"), "").unwrap();
    link("templates/a", "hf/chat_template.jinja");
    let refused = |args: &str| parse(dir, args).unwrap_err();
    let over = "is hf-model, which it would overwrite: name another directory";
    for same in ["DIR/hf", "DIR/hf/.", "DIR/hf/", "DIR/text/../hf", "DIR/link"] {
        let sentence = refused(&format!("--hf-model DIR/hf --export-hf {same}"));
        assert_eq!(sentence, format!("export-hf {same} {over}"));
    }
    assert_snapshot!(refused("--hf-model DIR/link --export-hf DIR/hf"), @"export-hf DIR/hf is hf-model, which it would overwrite: name another directory");
    assert_snapshot!(refused("--hf-model DIR/hf --export-hf DIR/blobs"), @"export-hf DIR/blobs would overwrite what lies beside hf-model DIR/hf/model.safetensors: name another directory");
    let sentence = refused("--hf-model DIR/hf --export-hf DIR/templates");
    assert!(sentence.contains("beside hf-model DIR/hf/chat_template.jinja"), "{sentence}");
    let text = "--config DIR/text/run.toml --tokenizer";
    assert_snapshot!(refused(&format!("{text} DIR/text/tokenizer.json --export-hf DIR/text")), @"export-hf DIR/text would overwrite what lies beside config DIR/text/run.toml: name another directory");
    let text = "--config DIR/280.toml --tokenizer";
    std::fs::copy(at("text/run.toml"), at("280.toml")).unwrap();
    assert_snapshot!(refused(&format!("{text} DIR/text/tokenizer.json --export-hf DIR/text")), @"export-hf DIR/text would overwrite what lies beside tokenizer DIR/text/tokenizer.json: name another directory");
    assert_snapshot!(refused(&format!("{text} DIR/snapshot/tokenizer.json --export-hf DIR/text")), @"export-hf DIR/text would overwrite what lies beside tokenizer DIR/snapshot/tokenizer.json: name another directory");
    assert_snapshot!(refused(&format!("{text} DIR/snapshot/tokenizer.json --export-hf DIR/snapshot")), @"export-hf DIR/snapshot would overwrite what lies beside tokenizer DIR/snapshot/tokenizer.json: name another directory");
    assert_snapshot!(refused("--data DIR/text/a.txt --export-hf DIR/text"), @"export-hf DIR/text would overwrite what lies beside data DIR/text/a.txt: name another directory");
    let eval = "--data DIR/text/a.txt --eval-every 1 --eval-data DIR/hf/../a.txt --export-hf DIR";
    std::fs::copy(at("text/a.txt"), at("a.txt")).unwrap();
    assert_snapshot!(refused(eval), @"export-hf DIR would overwrite what lies beside eval-data DIR/hf/../a.txt: name another directory");
    // A checkpoint, and one of several.
    let draft = checkpoint::saved::CheckpointWriter::new(&at("ck"), 4);
    draft.begin().unwrap();
    let mut start = parse(dir, "").unwrap();
    let text = step06::held_out::open(&mut start).unwrap().unwrap().training;
    let progress = cli::progress(&start.config, &text, 4);
    draft.commit(&start.config.model, progress, vec![]).unwrap();
    assert_snapshot!(refused("--resume DIR/ck --export-hf DIR/ck"), @"export-hf DIR/ck is resume, which it would overwrite: name another directory");
    assert_snapshot!(refused("--resume DIR/ck --export-hf DIR/ck/step-000004"), @"export-hf DIR/ck/step-000004 would overwrite what lies beside resume DIR/ck/step-000004/checkpoint.json: name another directory");
    // Below, above and beside them there is room.
    for free in ["DIR/new", "DIR/hf/export", "DIR", "DIR/not/yet"] {
        parse(dir, &format!("--hf-model DIR/hf --export-hf {free}")).unwrap();
    }
    // A relative path leads to the same place, and no place is written to before it is refused.
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count());
    let relative = format!("{up}{}", at("hf").strip_prefix("/").unwrap().display());
    let sentence = refused(&format!("--hf-model DIR/hf --export-hf {relative}"));
    assert!(sentence.ends_with(over), "{sentence}");
    assert!(at("hf/config.json").exists() && at("blobs/model.safetensors").exists());
}

#[test]
fn a_pointer_of_git_lfs_is_no_text_and_no_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    for name in ["a.txt", "a.bin", "tokenizer.json"] {
        std::fs::write(dir.path().join(name), pointer.repeat(9)).unwrap();
    }
    let refused = |args: &str| parse(dir.path(), args).unwrap_err();
    assert_snapshot!(refused("--data DIR/a.txt"), @"data: DIR/a.txt is a pointer of Git LFS, and the file itself is not here: fetch it with git lfs pull");
    assert_snapshot!(refused("--data DIR/a.bin"), @"data: DIR/a.bin is a pointer of Git LFS, and the file itself is not here: fetch it with git lfs pull");
    assert_snapshot!(refused("--eval-every 1 --eval-data DIR/a.txt"), @"eval-data: DIR/a.txt is a pointer of Git LFS, and the file itself is not here: fetch it with git lfs pull");
    assert_snapshot!(refused("--tokenizer DIR/tokenizer.json"), @"tokenizer: DIR/tokenizer.json is a pointer of Git LFS, and the file itself is not here: fetch it with git lfs pull");
}

#[test]
fn a_token_that_pads_and_occurs_in_the_text_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let notes = |keys: &str| {
        model(dir.path(), keys);
        parse(dir.path(), "--hf-model DIR/hf").unwrap().notes
    };
    // Tales have spaces, and no byte above those of ASCII.
    let space = notes(r#", "pad_token_id": 32"#);
    assert_eq!(space.len(), 1);
    assert_snapshot!(space[0], @"pad_token_id is 32, which occurs in the data: it is trained like any other token, where transformers would leave its embedding as it is");
    for harmless in
        [r#", "pad_token_id": 200"#, r#", "pad_token_id": -1"#, r#", "pad_token_id": null"#, ""]
    {
        assert_eq!(notes(harmless), [""; 0], "{harmless}");
    }
}
