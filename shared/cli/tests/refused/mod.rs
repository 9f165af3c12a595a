//! What a step answers to settings that will not do.
#![allow(dead_code)] // each test file uses its part

#[path = "../steps/mod.rs"]
pub mod steps;

use cli::{Program, Refusal};
use comm::Layout;
use std::path::Path;

/// A directory with files to be refused, called DIR in arguments and sentences.
pub fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    for name in ["x.csv", "x.txt", "x.bin"] {
        write(name, "");
    }
    write("short.txt", "too short");
    std::fs::write(dir.path().join("latin1.txt"), b"caf\xe9").unwrap();
    std::fs::write(dir.path().join("odd.bin"), [0; 3]).unwrap();
    std::fs::write(dir.path().join("high.bin"), [7, 1].repeat(500)).unwrap();
    write("long.txt", &"long enough ".repeat(100));
    std::fs::write(dir.path().join("long.bin"), [7, 0].repeat(500)).unwrap();
    write("fast.toml", "[train]\nlr = 1e-2");
    write("bpe.toml", "[model]\nvocab_size = 5000");
    write("big.toml", "[model]\nvocab_size = 100000");
    write("three.toml", "[model]\nnum_attention_heads = 6\nnum_key_value_heads = 3\nhead_dim = 16");
    write("small.toml", "[model]\nvocab_size = 200");
    std::fs::create_dir(dir.path().join("hf")).unwrap();
    write(
        "hf/config.json",
        r#"{"model_type": "llama", "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4, "rms_norm_eps": 1e-5}"#,
    );
    dir
}

/// What step `step` answers to `args`, where `''` is an empty argument.
pub fn refused_by(step: u8, args: &str, env: &[(&str, &str)], dir: &Path) -> String {
    let layout = if step == 6 { Layout { dp: 2, pp: 2, cp: 2, tp: 2 } } else { Layout::default() };
    let program = Program { step, about: "", layout };
    let path = dir.to_str().unwrap();
    let args = args.split(' ').map(|arg| arg.replace("DIR", path).replace("''", ""));
    let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string());
    match steps::parse(&program, args, env) {
        Err(Refusal::Invalid(sentence)) => {
            assert_eq!(sentence.lines().count(), 1, "{sentence}");
            sentence.replace(path, "DIR")
        }
        other => panic!("{other:?}"),
    }
}

pub fn refused(step: u8, args: &str) -> String {
    refused_by(step, args, &[], dir().path())
}

/// What step01 answers to a configuration file with this text.
pub fn file_refused(text: &str) -> String {
    let dir = dir();
    std::fs::write(dir.path().join("run.toml"), text).unwrap();
    refused_by(1, "--config DIR/run.toml", &[], dir.path())
}
