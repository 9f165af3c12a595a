//! What is written as Hugging Face would write it reads as it was, also where something broke off.

use checkpoint::{LlamaConfig, RopeScaling, Weights};
use std::os::unix::fs::PermissionsExt;
use tch::{Device, Kind, Tensor};

fn config() -> LlamaConfig {
    let config = r#"{"model_type": "llama", "vocab_size": 40, "hidden_size": 24, "intermediate_size": 32,
        "num_hidden_layers": 8, "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": [2, 3],
        "pad_token_id": null}"#;
    LlamaConfig::from_hf_json(config).unwrap().0
}

#[test]
fn a_written_config_reads_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let scaling = RopeScaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 512,
    };
    let (num_key_value_heads, head_dim) = (Some(2), Some(10));
    let config =
        LlamaConfig { num_key_value_heads, head_dim, rope_scaling: Some(scaling), ..config() };
    for (kind, dtype) in
        [(Kind::Double, "float64"), (Kind::Float, "float32"), (Kind::BFloat16, "bfloat16")]
    {
        config.write_hf(dir.path(), kind).unwrap();
        assert_eq!(LlamaConfig::from_hf_dir(dir.path()).unwrap().0, config);
        let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        let expected = format!(r#""torch_dtype": "{dtype}""#);
        assert!(text.contains(&expected), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let ids = ["bos_token_id", "eos_token_id"].map(|name| json[name].to_string());
        assert_eq!(ids, ["1", "[2,3]"]);
        assert!(json.get("pad_token_id").is_none(), "{text}");
    }
}

/// The tensors share their memory, so only copies of them take more.
#[test]
#[cfg(target_os = "linux")]
fn tensors_are_copied_one_at_a_time_as_they_are_written() {
    let peak = || -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap() // kB
    };
    let dir = tempfile::tempdir().unwrap();
    let tensor = Tensor::arange(1 << 20, (Kind::Float, Device::Cpu)).view([1 << 10, 1 << 10]);
    let tensors: Vec<_> = (0..64).map(|i| (format!("{i}"), tensor.tr())).collect();
    let before = peak();
    checkpoint::write_weights(dir.path(), 0, 1, &tensors).unwrap();
    let more = peak() - before;
    assert!(more < 64 << 10, "{more} kB more to write 64 tensors of 4096 kB");

    let bytes = std::fs::read(dir.path().join(".model.safetensors.partial")).unwrap();
    let last =
        Tensor::from_data_size(&bytes[bytes.len() - (4 << 20)..], &[1 << 10; 2], Kind::Float);
    assert!(last.equal(&tensor.tr()), "what is written is not the tensor");
}

#[test]
fn the_tokenizer_goes_along() {
    let [model, export] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let write = |name: &str| std::fs::write(model.path().join(name), name).unwrap();
    ["tokenizer.json", "generation_config.json", "notes.txt", "own.json"]
        .iter()
        .for_each(|name| write(name));
    let copy = |tokenizer| {
        let from = Some(model.path());
        checkpoint::copy_tokenizer(export.path(), &config(), from, tokenizer).unwrap();
        let names = ["tokenizer.json", "generation_config.json", "notes.txt"];
        names.map(|name| std::fs::read_to_string(export.path().join(name)).ok())
    };
    let beside = ["tokenizer.json", "generation_config.json"].map(|text| Some(text.to_owned()));
    assert_eq!(copy(None), [beside[0].clone(), beside[1].clone(), None]);
    let own = Some("own.json".to_owned());
    assert_eq!(copy(Some(&model.path().join("own.json"))), [own, beside[1].clone(), None]);
    checkpoint::copy_tokenizer(export.path(), &config(), None, None).unwrap();
}

#[test]
fn why_a_file_cannot_be_written_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("no");
    let error = format!("{:#}", checkpoint::write_weights(&nowhere, 0, 1, &[]).unwrap_err());
    let start = format!("cannot write {}/model.safetensors: No such file", nowhere.display());
    assert!(error.starts_with(&start), "{error}");
    assert_eq!(error.matches("No such file").count(), 1, "{error}");
}

#[test]
fn an_export_that_is_interrupted_leaves_no_mixture() {
    let dir = tempfile::tempdir().unwrap();
    let part = |file: usize, x: f64| {
        let name = ["a", "b"][file].to_owned();
        let tensors = [(name, Tensor::full([2], x, (Kind::Float, Device::Cpu)))];
        checkpoint::write_weights(dir.path(), file, 2, &tensors).unwrap()
    };
    let read = |name: &str| {
        let weights = Weights::open(dir.path(), Kind::Float, Device::Cpu).unwrap();
        weights.get(name, &[2]).unwrap().double_value(&[0])
    };
    let old = [part(0, 1.0), part(1, 1.0)].concat();
    checkpoint::finish_weights(dir.path(), &old).unwrap();
    config().write_hf(dir.path(), Kind::Float).unwrap();

    let first = part(0, 2.0);
    assert_eq!((read("a"), read("b")), (1.0, 1.0), "what is there is whole until all is written");
    let new = [first, part(1, 2.0)].concat();
    checkpoint::finish_weights(dir.path(), &new).unwrap();
    assert_eq!((read("a"), read("b")), (2.0, 2.0));
    let error = LlamaConfig::from_hf_dir(dir.path()).expect_err("no model before its config");
    assert!(error.to_string().starts_with("cannot read"), "{error}");

    // What was left by one that never ended goes with the next.
    part(1, 3.0);
    let one = [("a".to_owned(), Tensor::zeros([2], (Kind::Float, Device::Cpu)))];
    let one = checkpoint::write_weights(dir.path(), 0, 1, &one).unwrap();
    checkpoint::finish_weights(dir.path(), &one).unwrap();
    let names = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["model.safetensors"]);
}

/// The umask is that of a process, and tests are threads of one.
#[test]
fn files_are_as_private_as_the_umask_says() {
    let mut test = std::process::Command::new("sh");
    test.args(["-c", r#"umask 077 && exec "$0" --exact --ignored under_a_umask"#]);
    let output = test.arg(std::env::current_exe().unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "files_are_as_private_as_the_umask_says runs it, with a umask"]
fn under_a_umask() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [("a".to_owned(), Tensor::zeros([2], (Kind::Float, Device::Cpu)))];
    let entries = checkpoint::write_weights(dir.path(), 0, 1, &tensors).unwrap();
    checkpoint::finish_weights(dir.path(), &entries).unwrap();
    let mode = dir.path().join("model.safetensors").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
