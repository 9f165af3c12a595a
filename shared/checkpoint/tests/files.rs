//! Files as models come in them: what they hold is read as it stands there, or refused in a
//! sentence that says what is wrong.

use checkpoint::{LlamaConfig, Weights, check_weights};
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const CONFIG: &str = r#"{"vocab_size": 40, "hidden_size": 24, "intermediate_size": 32,
    "num_hidden_layers": 1, "num_attention_heads": 4, "tie_word_embeddings": TIED}"#;
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const ANGLES: &str = "model.layers.0.self_attn.rotary_emb.inv_freq";

fn config(tied: bool) -> (String, LlamaConfig) {
    let text = CONFIG.replace("TIED", &tied.to_string());
    let (config, _) = LlamaConfig::from_hf_json(&text).unwrap();
    (text, config)
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// Every weight of the model, with random numbers.
fn weights(config: &LlamaConfig) -> Vec<(String, Tensor)> {
    config.weights().map(|(name, shape)| (name, random(&shape))).collect()
}

/// A model's directory, with its weights in two files and an index that has `promises` too.
fn sharded(
    tied: bool,
    parts: [&[(String, Tensor)]; 2],
    promises: &[(&str, &str)],
) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config(tied).0).unwrap();
    let mut map = serde_json::Map::new();
    for (file, part) in ["one.safetensors", "two.safetensors"].iter().zip(parts) {
        Tensor::write_safetensors(part, dir.path().join(file)).unwrap();
        map.extend(part.iter().map(|(name, _)| (name.clone(), (*file).into())));
    }
    map.extend(promises.iter().map(|(name, file)| ((*name).to_owned(), (*file).into())));
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    dir
}

fn check(dir: &Path, tied: bool) -> Result<(), String> {
    let shown = dir.display().to_string();
    check_weights(dir, &config(tied).1).map_err(|e| format!("{e:#}").replace(&shown, "DIR"))
}

fn read(dir: &Path, name: &str) -> Tensor {
    let weights = Weights::open(dir, Kind::Float, Device::Cpu).unwrap();
    weights.get(name, &[40, 24]).unwrap().detach()
}

#[test]
fn a_tensor_in_two_files_is_the_same_in_both() {
    let all = weights(&config(false).1);
    let (part, rest) = all.split_at(3);
    let head = &all.last().unwrap().1;
    for file in ["one.safetensors", "two.safetensors"] {
        let with = |tensor: Tensor| {
            let part = part.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
            let part: Vec<_> = part.chain([(HEAD.to_owned(), tensor)]).collect();
            sharded(false, [&part, rest], &[(HEAD, file)])
        };
        let dir = with(head.copy());
        assert_eq!(check(dir.path(), false), Ok(()), "{file}");
        assert!(read(dir.path(), HEAD).equal(head));
        let expected = "lm_head.weight is in DIR/one.safetensors and in DIR/two.safetensors, and is not \
                        the same there: remove one of them";
        let dir = with(random(&[40, 24]));
        assert_eq!(check(dir.path(), false), Err(expected.to_owned()), "{file}");
    }
}

#[test]
fn a_tied_model_may_come_with_its_head_alone() {
    let (text, model) = config(true);
    let mut all = weights(&model);
    let embedding = all.remove(0).1;
    all.push((HEAD.to_owned(), embedding.shallow_clone()));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), text).unwrap();
    Tensor::write_safetensors(&all, dir.path().join("model.safetensors")).unwrap();
    assert_eq!(check(dir.path(), true), Ok(()));
    assert!(read(dir.path(), EMBEDDING).equal(&embedding));
    // In shards, whose index may name the one that is not there.
    let (part, rest) = all.split_at(3);
    for promises in [&[][..], &[(EMBEDDING, "one.safetensors")]] {
        let dir = sharded(true, [part, rest], promises);
        assert_eq!(check(dir.path(), true), Ok(()));
        assert!(read(dir.path(), EMBEDDING).equal(&embedding));
    }
    // An untied one needs both.
    fs::write(dir.path().join("config.json"), config(false).0).unwrap();
    let missing = "weight model.embed_tokens.weight is not in the model's files";
    assert_eq!(check(dir.path(), false), Err(missing.to_owned()));
}

#[test]
fn what_nothing_needs_may_be_absent() {
    let all = weights(&config(false).1);
    let (part, rest) = all.split_at(3);
    // transformers computes the angles itself; their file may be gone as well.
    for file in ["two.safetensors", "three.safetensors"] {
        let dir = sharded(false, [part, rest], &[(ANGLES, file)]);
        assert_eq!(check(dir.path(), false), Ok(()), "{file}");
    }
    let all = weights(&config(true).1);
    let (part, rest) = all.split_at(3);
    let dir = sharded(true, [part, rest], &[(HEAD, "two.safetensors")]);
    assert_eq!(check(dir.path(), true), Ok(()));
    let other = "model.layers.1.input_layernorm.weight";
    let dir = sharded(true, [part, rest], &[(other, "two.safetensors")]);
    let lacks = format!("the index of DIR promises {other} in two.safetensors, which lacks it");
    assert_eq!(check(dir.path(), true), Err(lacks));
}

#[test]
fn a_pointer_of_git_lfs_is_called_what_it_is() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    let all = weights(&config(false).1);
    let (part, rest) = all.split_at(3);
    for file in
        ["config.json", "model.safetensors.index.json", "one.safetensors", "two.safetensors"]
    {
        let dir = sharded(false, [part, rest], &[]);
        fs::write(dir.path().join(file), pointer).unwrap();
        let error = match file {
            "config.json" => format!("{:#}", LlamaConfig::from_hf_dir(dir.path()).unwrap_err()),
            _ => check_weights(dir.path(), &config(false).1).unwrap_err().to_string(),
        };
        let expected =
            "is a pointer of Git LFS, and the file itself is not here: fetch it with git lfs pull";
        assert_eq!(error, format!("{}/{file} {expected}", dir.path().display()));
    }
}

#[test]
fn every_dtype_is_read_by_its_value() {
    // Sums of powers of two that each dtype holds exactly, and the bits in which it does.
    let numbers = [1.0, -2.5, 0.15625, 96.0, -0.0078125, 0.0];
    let dir = tempfile::tempdir().unwrap();
    let bits16 = |bits: [u16; 6]| bits.map(u16::to_le_bytes).concat();
    let f16 = bits16([0x3c00, 0xc100, 0x3100, 0x5600, 0xa000, 0]);
    let bf16 = bits16([0x3f80, 0xc020, 0x3e20, 0x42c0, 0xbc00, 0]);
    let f32: Vec<u8> = numbers.map(|x| (x as f32).to_le_bytes()).concat();
    let f64: Vec<u8> = numbers.map(f64::to_le_bytes).concat();
    for (dtype, bytes) in [("F16", f16), ("BF16", bf16), ("F32", f32), ("F64", f64)] {
        let header = serde_json::json!({
            "a": { "dtype": dtype, "shape": [2, 3], "data_offsets": [0, bytes.len()] },
        });
        let header = header.to_string();
        let size = (header.len() as u64).to_le_bytes();
        let file = [&size[..], header.as_bytes(), &bytes].concat();
        fs::write(dir.path().join("model.safetensors"), file).unwrap();
        for kind in [Kind::Float, Kind::Double] {
            let weights = Weights::open(dir.path(), kind, Device::Cpu).unwrap();
            let whole = weights.get("a", &[2, 3]).unwrap().detach();
            assert_eq!(whole.kind(), kind);
            let read = Vec::<f64>::try_from(whole.to_kind(Kind::Double).flatten(0, -1)).unwrap();
            assert_eq!(read, numbers, "{dtype}");
            let columns = weights.shard("a", &[2, 3], 1, 1, 2).unwrap().detach();
            let read = Vec::<f64>::try_from(columns.to_kind(Kind::Double).flatten(0, -1)).unwrap();
            assert_eq!(read, [-2.5, 0.15625, -0.0078125, 0.0], "{dtype}");
        }
    }
}
