//! A slice holds what the whole holds there, whatever the source.

use checkpoint::{LlamaConfig, Weights, check_weights};
use std::path::Path;
use tch::{Device, Kind, Tensor};

const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 40, "hidden_size": 24,
    "intermediate_size": 32, "num_hidden_layers": 8, "num_attention_heads": 4}"#;

fn config() -> LlamaConfig {
    config_with("")
}

fn config_with(more: &str) -> LlamaConfig {
    let body = CONFIG.trim_end().trim_end_matches('}');
    LlamaConfig::from_hf_json(&format!("{body}{more}}}")).unwrap().0
}

fn seeded(seed: u64) -> Weights {
    Weights::seeded(seed, &config(), Kind::Double, Device::Cpu)
}

/// Every way to cut `name` into 1, 2, 3 or 4 parts along either dimension puts it together again.
fn assert_shards_make_the_whole(weights: &Weights, name: &str, shape: [i64; 2]) {
    let whole = weights.get(name, &shape).unwrap();
    assert_eq!(whole.size(), shape);
    for dim in 0..2 {
        for parts in [1, 2, 3, 4] {
            let shard = |part| weights.shard(name, &shape, dim, part, parts).unwrap();
            let shards: Vec<Tensor> = (0..parts).map(shard).collect();
            assert_eq!(Tensor::cat(&shards, dim as i64), whole, "dim {dim}, {parts} parts");
        }
    }
}

#[test]
fn seeded_shards_are_slices_of_the_seeded_whole() {
    assert_shards_make_the_whole(&seeded(7), "model.layers.3.self_attn.q_proj.weight", [24, 36]);
}

#[test]
fn a_matrix_that_no_memory_holds_is_named() {
    let error = seeded(7).shard("a.weight", &[1 << 26, 1 << 25], 0, 1, 2).unwrap_err();
    assert_eq!(format!("{error:#}"), "weight a.weight: there is no memory to draw its 8388608 GiB");
}

#[test]
fn seeded_numbers_depend_on_seed_name_and_row_and_on_nothing_else() {
    let draw = |seed, name: &str| seeded(seed).get(name, &[6, 500]).unwrap();
    let first = draw(7, "a.weight");
    assert_eq!(first, draw(7, "a.weight"));
    for other in [draw(8, "a.weight"), draw(7, "b.weight")] {
        // Not one number in common: independent draws of 53 bits.
        assert_eq!(first.eq_tensor(&other).sum(Kind::Int64).int64_value(&[]), 0);
    }
    let rows = first.get(0).eq_tensor(&first.get(1)).sum(Kind::Int64).int64_value(&[]);
    assert_eq!(rows, 0, "two rows share numbers");
    // More rows or a narrower matrix leave the common part alone.
    let larger = seeded(7).get("a.weight", &[9, 500]).unwrap();
    assert_eq!(larger.narrow(0, 0, 6), first);
    let narrower = seeded(7).get("a.weight", &[6, 400]).unwrap();
    assert_eq!(narrower, first.narrow(1, 0, 400));
    // They are the same in every version: a seed names a model.
    let drawn =
        [(0, 0), (0, 499), (5, 250)].map(|(row, column)| first.double_value(&[row, column]));
    let expected = [-0.012692013636230291, 0.006193427077429295, 0.001923444388629485];
    assert_eq!(drawn, expected);
}

#[test]
fn seeded_matrices_have_the_stated_spread_and_norms_are_one() {
    let std = |name: &str| {
        let drawn = seeded(1).get(name, &[400, 500]).unwrap();
        (drawn.mean(Kind::Double).double_value(&[]), drawn.std(true).double_value(&[]))
    };
    // 200,000 draws: the standard deviation is known to 0.02/√400,000 ≈ 0.2%, the mean to 0.02/447.
    // Five of each are allowed.
    for (name, expected) in
        [("q_proj.weight", 0.02), ("o_proj.weight", 0.005), ("down_proj.weight", 0.005)]
    {
        let (mean, std) = std(name);
        assert!((std / expected - 1.0).abs() < 0.01, "{name}: {std}");
        assert!(mean.abs() < 5.0 * expected / 447.0, "{name}: {mean}");
    }
    let norm = seeded(1).get("model.norm.weight", &[24]).unwrap();
    assert_eq!(norm, Tensor::ones([24], (Kind::Double, Device::Cpu)));
    assert!(norm.requires_grad() && norm.is_leaf());
}

fn write(dir: &Path, file: &str, tensors: &[(&str, &Tensor)]) {
    Tensor::write_safetensors(tensors, dir.join(file)).unwrap();
}

#[test]
fn files_give_slices_of_the_whole_single_or_sharded() {
    let dir = tempfile::tempdir().unwrap();
    let a = Tensor::randn([24, 36], (Kind::Double, Device::Cpu));
    let b = Tensor::randn([12, 24], (Kind::Float, Device::Cpu));
    write(dir.path(), "model.safetensors", &[("a", &a), ("b", &b)]);
    let open = |kind| Weights::open(dir.path(), kind, Device::Cpu);
    let single = open(Kind::Double).unwrap();
    assert_shards_make_the_whole(&single, "a", [24, 36]);
    assert_eq!(single.get("a", &[24, 36]).unwrap(), a);
    assert_eq!(single.get("b", &[12, 24]).unwrap(), b.to_kind(Kind::Double));

    std::fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    write(dir.path(), "one.safetensors", &[("a", &a)]);
    write(dir.path(), "two.safetensors", &[("b", &b)]);
    let index = |b: &str| format!(r#"{{"weight_map": {{"a": "one.safetensors", "b": "{b}"}}}}"#);
    let path = dir.path().join("model.safetensors.index.json");
    std::fs::write(&path, index("two.safetensors")).unwrap();
    let sharded = open(Kind::Double).unwrap();
    assert_shards_make_the_whole(&sharded, "a", [24, 36]);
    assert_eq!(sharded.get("b", &[12, 24]).unwrap(), b.to_kind(Kind::Double));
    std::fs::write(&path, index("one.safetensors")).unwrap();
    let error = open(Kind::Double).err().unwrap().to_string();
    assert!(error.contains("promises b in one.safetensors"), "{error}");
}

#[test]
fn missing_misshapen_and_torn_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Weights::open(dir.path(), Kind::Float, Device::Cpu);
    let text = |e: anyhow::Error| format!("{e:#}");
    assert!(text(open().err().unwrap()).contains("model.safetensors"));
    let a = Tensor::randn([4, 6], (Kind::Float, Device::Cpu));
    write(dir.path(), "model.safetensors", &[("a", &a)]);
    let weights = open().unwrap();
    assert!(text(weights.get("c", &[4, 6]).unwrap_err()).contains("weight c: is not in the"));
    assert!(text(weights.get("a", &[6, 4]).unwrap_err()).contains("has shape [4, 6]"));
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(text(open().err().unwrap()).contains("not a whole safetensors file"));
}

#[test]
fn the_weights_of_a_directory_are_those_of_its_model() {
    let config = |more: &str| LlamaConfig { num_hidden_layers: 2, ..config_with(more) };
    let (tied, untied) = (config(r#", "tie_word_embeddings": true"#), config(""));
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
    let named = untied.weights().map(|(name, shape)| (name, random(&shape)));
    let all: Vec<(String, Tensor)> = named.collect();
    assert_eq!(all.len(), 2 * 9 + 3);
    let answer = |config: &LlamaConfig, tensors: &[(String, Tensor)]| {
        let dir = tempfile::tempdir().unwrap();
        Tensor::write_safetensors(tensors, dir.path().join("model.safetensors")).unwrap();
        check_weights(dir.path(), config).map_err(|error| format!("{error:#}"))
    };
    let but = |name: &str, tensor: Option<Tensor>| -> Vec<(String, Tensor)> {
        let others = all.iter().filter(|(other, _)| other != name);
        let others = others.map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        others.chain(tensor.map(|tensor| (name.to_owned(), tensor))).collect()
    };
    assert_eq!(answer(&untied, &all), Ok(()));

    let q = "model.layers.1.self_attn.q_proj.weight";
    let missing = Err(format!("weight {q} is not in the model's files"));
    assert_eq!(answer(&untied, &but(q, None)), missing);
    let shape = Err(format!("weight {q} has shape [24, 12] where the config says [24, 24]"));
    assert_eq!(answer(&untied, &but(q, Some(random(&[24, 12])))), shape);
    let integers =
        Err(format!("weight {q} has dtype I64, but only F64, F32, F16 and BF16 can be loaded"));
    let tensor = random(&[24, 24]).to_kind(Kind::Int64);
    assert_eq!(answer(&untied, &but(q, Some(tensor))), integers);
    let fewer = LlamaConfig { num_hidden_layers: 1, ..untied.clone() };
    let more = "weight model.layers.1.input_layernorm.weight is in the model's files, but does not";
    assert!(answer(&fewer, &all).unwrap_err().starts_with(more));
    let angles = but("model.layers.0.self_attn.rotary_emb.inv_freq", Some(random(&[3])));
    assert_eq!(answer(&untied, &angles), Ok(()));

    // A head that is tied and written all the same must be the embedding.
    let head = "lm_head.weight";
    assert_eq!(answer(&tied, &but(head, None)), Ok(()));
    let other = "tie_word_embeddings is true, but lm_head.weight is not model.embed_tokens.weight";
    assert_eq!(answer(&tied, &all), Err(other.to_owned()));
    assert_eq!(answer(&tied, &but(head, Some(all[0].1.copy()))), Ok(()));
    assert!(answer(&untied, &but(head, None)).unwrap_err().contains(head));
}

#[test]
fn both_spellings_of_the_rotary_embedding_are_read() {
    let with = |extra: &str| {
        let body = CONFIG.trim_end().trim_end_matches('}');
        LlamaConfig::from_hf_json(&format!("{body}, {extra}}}"))
    };
    let scaling = r#""factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3""#;
    let brace = |name: &str, body: &str| format!(r#""{name}": {{{body}}}"#);
    let old = format!(r#""rope_theta": 500000.0, {}"#, brace("rope_scaling", scaling));
    let new = brace("rope_parameters", &format!(r#""rope_theta": 500000.0, {scaling}"#));
    let parse = |extra: &str| with(extra).unwrap().0;
    assert_eq!(parse(&old), parse(&new));
    let config = parse(&new);
    assert_eq!(config.rope_theta, 500000.0);
    assert_eq!(config.rope_scaling.unwrap().original_max_position_embeddings, 8192);
    assert_eq!(parse(r#""rope_scaling": null"#).rope_scaling, None);
    let error = |extra: &str| format!("{:#}", with(extra).unwrap_err());
    assert!(error(r#""attention_bias": true"#).contains("no bias"));
    assert!(error(r#""mlp_bias": true"#).contains("no bias"));
    assert!(error(r#""hidden_act": "gelu""#).contains("hidden_act is \"gelu\""));
    assert!(error(&brace("rope_scaling", r#""rope_type": "yarn""#)).contains("\"yarn\""));
    let untyped = error(&brace("rope_scaling", r#""factor": 8.0"#));
    assert!(untyped.contains("has a factor, but no rope_type"), "{untyped}");
    // Many files have the older name of rope_type beside it.
    let both = |older: &str| {
        format!(r#""rope_theta": 500000.0, "rope_scaling": {{{scaling}, "type": "{older}"}}"#)
    };
    assert_eq!(parse(&both("llama3")), parse(&new));
    assert_eq!(parse(&both("llama3").replace("rope_type", "name")), parse(&new));
    let differ = "rope_type is \"llama3\", but type, its older name, is \"yarn\"";
    assert!(error(&both("yarn")).contains(differ), "{}", error(&both("yarn")));
    let field = error(r#""rope_theta": "ten""#);
    assert!(field.contains("rope_theta: invalid type: string \"ten\""), "{field}");
    let mistral = CONFIG.replace("llama", "mistral");
    assert!(LlamaConfig::from_hf_json(&mistral).unwrap_err().to_string().contains("\"mistral\""));
}
