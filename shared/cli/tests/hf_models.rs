//! Which directories of Hugging Face a run may start from.

use checkpoint::LlamaConfig;
use cli::{Program, Refusal};
use comm::Layout;
use insta::assert_snapshot;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The sentence with which step01 refuses `dir` as its --hf-model; the directory is DIR in it.
fn refused(dir: &Path) -> String {
    refused_with(dir, "")
}

/// As [`refused`], with more flags.
fn refused_with(dir: &Path, more: &str) -> String {
    let program = Program { step: 1, about: "", layout: Layout::default() };
    let args = format!("--hf-model DIR {more}").replace("DIR", dir.to_str().unwrap());
    match cli::parse(&program, args.split_whitespace(), |_| None) {
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
