//! The architecture.

use anyhow::{Result, ensure};
use checkpoint::LlamaConfig;

pub(super) fn check(model: &LlamaConfig) -> Result<()> {
    sizes(model)?;
    heads(model)?;
    parameters(model)?;
    numbers(model)
}

fn sizes(model: &LlamaConfig) -> Result<()> {
    let sizes = [
        ("vocab_size", model.vocab_size),
        ("hidden_size", model.hidden_size),
        ("intermediate_size", model.intermediate_size),
        ("num_hidden_layers", model.num_hidden_layers),
        ("num_attention_heads", model.num_attention_heads),
        ("num_key_value_heads", model.kv_heads()),
        ("head_dim", model.head_dim.unwrap_or(1)),
        ("max_position_embeddings", model.max_position_embeddings),
    ];
    for (name, size) in sizes {
        ensure!(size >= 1, "{name} is {size}, but must be at least 1");
        // Products of two sizes must fit an i64 with room to spare; layers are gone
        // through one by one.
        let limit = if name == "num_hidden_layers" { 1 << 16 } else { 1 << 30 };
        ensure!(size <= limit, "{name} is {size}, but no model has more than {limit}");
    }
    Ok(())
}

fn heads(model: &LlamaConfig) -> Result<()> {
    let (hidden, heads, kv) = (model.hidden_size, model.num_attention_heads, model.kv_heads());
    ensure!(
        model.head_dim.is_some() || hidden % heads == 0,
        "num_attention_heads is {heads}, but must divide hidden_size {hidden} unless head_dim is given"
    );
    ensure!(
        heads % kv == 0,
        "num_key_value_heads is {kv}, but must divide num_attention_heads {heads}"
    );
    let head_dim = model.head_dim();
    ensure!(
        head_dim >= 2 && head_dim % 2 == 0,
        "head_dim is {head_dim}, but rotary embeddings turn pairs of numbers: it must be even"
    );
    Ok(())
}

/// Each size may be possible, but not all of them together.
const MOST_PARAMETERS: f64 = 1e15;

fn parameters(model: &LlamaConfig) -> Result<()> {
    let [hidden, inner, layers, heads, kv_heads, head_dim, vocab] = [
        model.hidden_size,
        model.intermediate_size,
        model.num_hidden_layers,
        model.num_attention_heads,
        model.kv_heads(),
        model.head_dim(),
        model.vocab_size,
    ]
    .map(|n| n as f64);
    let layer = 2.0 * (heads + kv_heads) * head_dim + 3.0 * inner;
    let count = hidden * (layers * layer + 2.0 * vocab);
    ensure!(
        count <= MOST_PARAMETERS,
        "hidden_size {hidden}, intermediate_size {inner}, head_dim {head_dim} and num_hidden_layers \
         {layers} make {count:.0e} parameters, but no model has more than {MOST_PARAMETERS:.0e}"
    );
    Ok(())
}

fn numbers(model: &LlamaConfig) -> Result<()> {
    let above_0 = |name: &str, x: f64| {
        ensure!(x > 0.0 && x.is_finite(), "{name} is {x:?}, but must be above 0");
        Ok(())
    };
    above_0("rms_norm_eps", model.rms_norm_eps)?;
    above_0("rope_theta", model.rope_theta)?;
    if let Some(rope) = &model.rope_scaling {
        let (low, high) = (rope.low_freq_factor, rope.high_freq_factor);
        above_0("rope_scaling factor", rope.factor)?;
        above_0("rope_scaling low_freq_factor", low)?;
        above_0("rope_scaling high_freq_factor", high)?;
        ensure!(
            low < high,
            "rope_scaling low_freq_factor is {low:?}, but must be below high_freq_factor {high:?}"
        );
        let original = rope.original_max_position_embeddings;
        ensure!(
            original >= 1,
            "rope_scaling original_max_position_embeddings is {original}, but must be at least 1"
        );
    }
    Ok(())
}
