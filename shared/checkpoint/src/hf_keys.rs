//! The keys of a `config.json` that are not read, and what is known of them.

use anyhow::{Result, ensure};
use serde_json::{Map, Value};

/// Those that [`crate::hf_config`] reads, and those inside a table of the rotary embedding.
const READ: &str = "model_type hidden_act vocab_size hidden_size intermediate_size num_hidden_layers \
    num_attention_heads num_key_value_heads head_dim rms_norm_eps rope_theta rope_scaling \
    rope_parameters original_max_position_embeddings tie_word_embeddings max_position_embeddings \
    attention_bias mlp_bias dtype torch_dtype bos_token_id eos_token_id pad_token_id architectures";
const READ_IN_ROPE: &str = "rope_type type rope_theta factor low_freq_factor high_freq_factor \
    original_max_position_embeddings";

/// Those that change nothing in a training run: what transformers computes a Llama without, or says
/// about itself, or takes for generation. (`pretraining_tp` cuts a product into parts that make up
/// the same product.) Of a table of the rotary embedding: what only other types read.
const HARMLESS: &str = "_attn_implementation _attn_implementation_autoset _commit_hash \
    _flash_attn_2_enabled _from_model_config _name_or_path attn_implementation base_model_tp_plan \
    chunk_size_feed_forward classifier_dropout cls_token_id cross_attention_hidden_size \
    decoder_start_token_id distributed_config eos_token experts_implementation finetuning_task \
    gradient_checkpointing id2label initializer_range is_decoder label2id mask_token_id \
    max_sequence_length max_window_layers model_max_length name_or_path num_labels \
    output_attentions output_hidden_states pretraining_tp prefix problem_type return_dict \
    sep_token_id task_specific_params tf_legacy_loss tie_encoder_decoder tie_last_hidden_states \
    tokenizer_class torchscript transformers_version unk_token_id unsloth_fixed unsloth_version \
    use_bfloat16 use_cache use_return_dict";
const HARMLESS_IN_GENERATION: &str = "assistant_confidence_threshold assistant_lookbehind \
    bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping \
    encoder_no_repeat_ngram_size encoder_repetition_penalty epsilon_cutoff eta_cutoff \
    exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty \
    max_length max_new_tokens min_length no_repeat_ngram_size num_assistant_tokens \
    num_assistant_tokens_schedule num_beam_groups num_beams num_return_sequences output_logits \
    output_scores remove_invalid_values repetition_penalty return_dict_in_generate suppress_tokens \
    target_lookbehind temperature top_k top_p typical_p";
const HARMLESS_IN_ROPE: &str = "attention_factor beta_fast beta_slow finetuned long_factor mscale \
    mscale_all_dim short_factor truncate";

/// Those that change the computation, in transformers' Llama or in a model that is called one,
/// and the values with which they do not, as JSON. Left out or null they do not either, except
/// for `is_causal`.
#[rustfmt::skip] // a table
const FIXED: [(&str, &str); 28] = [
    ("is_causal", "[true]"),
    ("attention_dropout hidden_dropout hidden_dropout_prob attention_probs_dropout_prob resid_dropout \
      residual_dropout resid_pdrop embd_pdrop attn_pdrop embedding_dropout dropout layerdrop", "[0]"),
    ("bias qkv_bias use_bias use_qkv_bias attention_qkv_bias attention_out_bias o_proj_bias lm_head_bias", "[false]"),
    ("use_bidirectional_attention is_encoder_decoder add_cross_attention", "[false]"),
    ("quantization_config compression_config transformers_weights", "[]"),
    ("per_layer_config pruned_heads", "[{}]"),
    ("attention_chunk_size attention_window window_size", "[]"),
    ("use_sliding_window", "[false]"),
    ("sliding_window_pattern no_rope_layers no_rope_layer_interval", "[]"),
    ("partial_rotary_factor rotary_pct rotary_percent rope_percent", "[1]"),
    ("rotary_dim rope_local_base_freq rope_ratio", "[]"),
    ("rope_interleaved rope_interleave alibi", "[false]"),
    ("use_rope", "[true]"),
    ("position_embedding_type", "[\"rope\", \"rotary\"]"),
    ("embedding_multiplier residual_multiplier logits_scaling logit_scale scale_emb embedding_scale \
      lm_head_multiplier key_multiplier attention_in_multiplier attention_out_multiplier", "[1]"),
    ("scale_embeddings attn_temperature_tuning mup_enabled use_mup", "[false]"),
    ("attention_multiplier attention_scale softmax_scale query_pre_attn_scalar logits_mup_width_multiplier \
      scale_depth dim_model_base mlp_multipliers ssm_multipliers", "[]"),
    ("attn_logit_softcapping final_logit_softcapping logit_softcap", "[0]"),
    ("clip_qkv", "[]"),
    ("use_qk_norm qk_norm qk_layernorm", "[false]"),
    ("norm_type", "[\"rmsnorm\", \"rms_norm\", \"RMSNorm\"]"),
    ("hidden_activation activation_function", "[\"silu\", \"swish\"]"),
    ("use_parallel_residual parallel_residual parallel_attn use_post_norm", "[false]"),
    ("num_experts num_local_experts n_routed_experts n_shared_experts num_experts_per_tok", "[0, 1]"),
    ("num_nextn_predict_layers num_kv_shared_layers num_mtp_modules", "[0]"),
    ("moe_intermediate_size kv_lora_rank q_lora_rank block_configs cross_attention_layers", "[]"),
    ("kv_sharing_modes layers_block_type", "[]"),
    ("text_config vision_config audio_config", "[]"),
];

/// How much of a value a sentence shows.
const SHOWN_CHARS: usize = 60;

/// Refuses the settings that change the computation, and returns a sentence that names the keys
/// which nobody knows, if there are any.
pub(crate) fn check(all: &Map<String, Value>) -> Result<Vec<String>> {
    let mut unknown = vec![];
    for (key, value) in all {
        match key.as_str() {
            // Files of other models have a window that is not used.
            "sliding_window" => {
                let unused = all.get("use_sliding_window") == Some(&Value::Bool(false));
                ensure!(value.is_null() || unused, refusal(key, value, "[]"));
            }
            "layer_types" | "mlp_layer_types" => {
                let plain = ["full_attention", "attention", "dense"];
                let is_plain = |kind: &Value| kind.as_str().is_some_and(|k| plain.contains(&k));
                let all_plain = value.as_array().is_some_and(|kinds| kinds.iter().all(is_plain));
                let want = if key == "layer_types" { "full_attention" } else { "dense" };
                ensure!(
                    value.is_null() || all_plain,
                    "{key} is {}, but every layer must be \"{want}\"",
                    shown(value)
                );
            }
            "rope_scaling" | "rope_parameters" => unknown.extend(check_rope(key, value)?),
            _ if is_in(key, READ) => {}
            _ => match FIXED.iter().find(|(keys, _)| is_in(key, keys)) {
                Some((_, same)) => ensure!(
                    (value.is_null() && key != "is_causal") || is_one_of(value, same)?,
                    refusal(key, value, same)
                ),
                None if is_in(key, HARMLESS) || is_in(key, HARMLESS_IN_GENERATION) => {}
                None => unknown.push(key.clone()),
            },
        }
    }
    let mut notes = vec![];
    if let Some(Value::Array(names)) = all.get("architectures") {
        let ours = |name: &Value| {
            name.as_str().is_some_and(|name| name.eq_ignore_ascii_case("LlamaForCausalLM"))
        };
        if !names.is_empty() && !names.iter().any(ours) {
            let names = shown(&Value::Array(names.clone()));
            notes.push(format!("architectures is {names}, but LlamaForCausalLM is computed"));
        }
    }
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        notes.push(format!("ignored, for nothing is known of it: {names}"));
    }
    Ok(notes)
}

/// As [`check`], inside a table of the rotary embedding.
fn check_rope(table: &str, value: &Value) -> Result<Vec<String>> {
    let mut unknown = vec![];
    for (key, value) in value.as_object().into_iter().flatten() {
        let name = format!("{table}.{key}");
        if key == "partial_rotary_factor" {
            ensure!(value.is_null() || is_one_of(value, "[1]")?, refusal(&name, value, "[1]"));
            continue;
        }
        ensure!(
            !value.is_object(),
            "{name} is a table, but all layers must have the same rotary embedding"
        );
        if !is_in(key, READ_IN_ROPE) && !is_in(key, HARMLESS_IN_ROPE) {
            unknown.push(name);
        }
    }
    Ok(unknown)
}

fn refusal(key: &str, value: &Value, same: &str) -> String {
    let need = match same.trim_matches(['[', ']']) {
        "" => "be left out or null".to_owned(),
        values => format!("be {}", values.replace(", ", " or ")),
    };
    format!("{key} is {}, but must {need}: with it the model is another one", shown(value))
}

fn is_in(key: &str, list: &str) -> bool {
    list.split_whitespace().any(|known| known == key)
}

/// Whether `value` is in `list`, a JSON array; 1 and 1.0 are the same.
fn is_one_of(value: &Value, list: &str) -> Result<bool> {
    let list: Vec<Value> = serde_json::from_str(list)?;
    let same = |other: &Value| match (value.as_f64(), other.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => value == other,
    };
    Ok(list.iter().any(same))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}
