//! What a config.json says is taken as transformers takes it, or refused; nothing is passed
//! over in silence.

use checkpoint::LlamaConfig;

const CONFIG: &str = r#""vocab_size": 40, "hidden_size": 24, "intermediate_size": 32,
    "num_hidden_layers": 8, "num_attention_heads": 4"#;

fn read(more: &str) -> anyhow::Result<(LlamaConfig, Vec<String>)> {
    LlamaConfig::from_hf_json(&format!("{{{CONFIG}, {more}}}"))
}

fn refused(more: &str) -> String {
    match read(more) {
        Err(error) => format!("{error:#}"),
        Ok(_) => panic!("{more} was taken"),
    }
}

const LLAMA3: &str = r#""rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64"#;

#[test]
fn two_spellings_of_one_setting_agree_or_are_refused() {
    let both = |old: &str, new: &str| {
        format!(r#""rope_scaling": {{{old}}}, "rope_parameters": {{{new}}}"#)
    };
    let default = r#""rope_type": "default""#;
    let scaled = "\"llama3\" with rope_theta 10000.0, factor 8.0, low_freq_factor 1.0, \
                  high_freq_factor 4.0 and original_max_position_embeddings 64";
    let plain = "\"default\" with rope_theta 10000.0";
    let differ = |old: &str, new: &str| {
        format!(
            "rope_scaling is {old}, but rope_parameters, its newer name, is {new}: leave one of them out"
        )
    };
    assert_eq!(refused(&both(LLAMA3, default)), differ(scaled, plain));
    assert_eq!(refused(&both(default, LLAMA3)), differ(plain, scaled));
    let linear = r#""rope_type": "linear", "factor": 2"#;
    assert!(refused(&both(linear, default)).contains("rope_type is \"linear\""));
    assert!(refused(&both(default, linear)).contains("rope_type is \"linear\""));
    let twice = read(&both(LLAMA3, LLAMA3)).unwrap();
    assert_eq!(twice, read(&both(LLAMA3, "")).unwrap());
    assert_eq!(twice, read(&both("", LLAMA3)).unwrap());

    // Inside a table and outside of it.
    let theta = |inside: &str| format!(r#""rope_theta": 500.0, "rope_scaling": {{{inside}}}"#);
    let error = refused(&theta(&format!("{LLAMA3}, \"rope_theta\": 10000")));
    let expected = "rope_theta is 500.0, but in rope_scaling it is 10000.0: leave one of them out";
    assert_eq!(error, expected);
    assert_eq!(read(&theta(LLAMA3)).unwrap().0.rope_theta, 500.0);
    let inside = format!(r#""rope_scaling": {{{LLAMA3}, "rope_theta": 500}}"#);
    assert_eq!(read(&inside).unwrap(), read(&theta(LLAMA3)).unwrap());
    let original = |n: i64| {
        format!(r#""original_max_position_embeddings": {n}, "rope_parameters": {{{LLAMA3}}}"#)
    };
    let expected = "original_max_position_embeddings is 32, but in rope_parameters it is 64: leave one of them out";
    assert_eq!(refused(&original(32)), expected);
    read(&original(64)).unwrap();
    // Where the table does not say it, it is what stands outside, or else the longest sequence.
    let bare =
        r#""rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0"#;
    let length = |outside: &str| {
        let (model, _) = read(&format!(r#"{outside}"rope_scaling": {{{bare}}}"#)).unwrap();
        model.rope_scaling.unwrap().original_max_position_embeddings
    };
    assert_eq!(length(r#""original_max_position_embeddings": 32, "#), 32);
    assert_eq!(length(r#""max_position_embeddings": 128, "#), 128);

    let dtypes = |new: &str, old: &str| format!(r#""dtype": "{new}", "torch_dtype": "{old}""#);
    let expected = "dtype is \"float32\", but torch_dtype, its older name, is \"bfloat16\"";
    assert_eq!(refused(&dtypes("float32", "bfloat16")), expected);
    read(&dtypes("float32", "float32")).unwrap();
    assert!(refused(r#""rms_norm_eps": 1e-5, "rms_norm_eps": 1e-6"#).contains("duplicate field"));
}

#[test]
fn a_key_that_changes_the_computation_is_refused_by_name() {
    let another = "with it the model is another one";
    for (key, values, harmless) in [
        ("is_causal", "false null", "true"),
        ("attention_dropout", "0.3 true", "0 0.0 null"),
        ("hidden_dropout", "0.1", "0.0"),
        ("qkv_bias", "true", "false null"),
        ("sliding_window", "4096", "null"),
        ("attention_chunk_size", "8192", "null"),
        ("use_bidirectional_attention", "true", "false"),
        ("per_layer_config", r#"{"0":{"rms_norm_eps":0.5}}"#, "null {}"),
        ("quantization_config", r#"{"quant_method":"gptq"}"#, "null"),
        ("compression_config", r#"{"format":"dense"}"#, "null"),
        ("transformers_weights", r#""other.safetensors""#, "null"),
        ("partial_rotary_factor", "0.5", "1 1.0 null"),
        ("attention_multiplier", "0.015625", "null"),
        ("embedding_multiplier", "12", "1 1.0"),
        ("logits_scaling", "8.0", "1.0"),
        ("final_logit_softcapping", "30.0", "0 null"),
        ("use_qk_norm", "true", "false"),
        ("num_local_experts", "8", "0 1 null"),
        ("hidden_activation", r#""gelu""#, r#""silu" null"#),
    ] {
        for value in values.split(' ') {
            let error = refused(&format!("\"{key}\": {value}"));
            assert!(error.starts_with(&format!("{key} is {value}, but must ")), "{error}");
            assert!(error.ends_with(another), "{error}");
        }
        for value in harmless.split(' ') {
            let (_, notes) = read(&format!("\"{key}\": {value}")).unwrap();
            assert_eq!(notes, [""; 0], "{key} {value}");
        }
    }
    let expected = "attention_dropout is 0.3, but must be 0: with it the model is another one";
    assert_eq!(refused(r#""attention_dropout": 0.3"#), expected);
    let expected =
        "sliding_window is 8, but must be left out or null: with it the model is another one";
    assert_eq!(refused(r#""sliding_window": 8"#), expected);
    read(r#""sliding_window": 8, "use_sliding_window": false, "max_window_layers": 2"#).unwrap();

    let kinds = |kind: &str| format!(r#""layer_types": ["full_attention", "{kind}"]"#);
    read(&kinds("full_attention")).unwrap();
    let error = refused(&kinds("sliding_attention"));
    assert!(error.ends_with("but every layer must be \"full_attention\""), "{error}");
    let table = r#""rope_parameters": {"full_attention": {"rope_theta": 500}}"#;
    let expected = "rope_parameters.full_attention is a table, but all layers must have the same rotary embedding";
    assert_eq!(refused(table), expected);
    let half = r#""rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.5}"#;
    assert!(refused(half).starts_with("rope_scaling.partial_rotary_factor is 0.5, but must be 1"));
    // A long value does not make a long sentence.
    let long = format!(r#""text_config": "{}""#, "long ".repeat(100));
    assert!(refused(&long).len() < 200);
}

#[test]
fn a_key_that_nobody_knows_is_named() {
    let (model, notes) =
        read(r#""frobnicate": 3, "use_cache": false, "rope_scaling": {"rope_type": "default", "spin": 1}"#)
            .unwrap();
    assert_eq!(notes, ["ignored, for nothing is known of it: frobnicate, rope_scaling.spin"]);
    assert_eq!(model, read(r#""use_cache": true"#).unwrap().0);
    let (_, notes) = read(r#""architectures": ["LlamaForPoetry"]"#).unwrap();
    assert_eq!(notes, ["architectures is [\"LlamaForPoetry\"], but LlamaForCausalLM is computed"]);
    // Of files that transformers has written itself there is nothing to say.
    for name in ["tiny-llama", "tiny-llama3"] {
        let dir = std::path::Path::new("../../tests/fixtures").join(name);
        assert_eq!(LlamaConfig::from_hf_dir(&dir).unwrap().1, [""; 0], "{name}");
    }
}

#[test]
fn token_ids_are_those_that_transformers_would_have() {
    let ids = |more: &str| {
        let ids = read(more).unwrap().0.token_ids;
        ["bos_token_id", "eos_token_id", "pad_token_id"].map(|name| ids.get(name).cloned())
    };
    let id = |n: i64| Some(n.into());
    assert_eq!(ids(r#""use_cache": true"#), [id(1), id(2), None], "LlamaConfig's own");
    assert_eq!(ids(r#""bos_token_id": null, "eos_token_id": null"#), [None, None, None]);
    let several = Some(serde_json::json!([7, 8]));
    assert_eq!(ids(r#""eos_token_id": [7, 8], "pad_token_id": 3"#), [id(1), several, id(3)]);
}
