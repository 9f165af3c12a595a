//! Llama (Touvron et al., 2023), as Hugging Face defines it and under its parameter names.

use anyhow::Result;
use checkpoint::{LlamaConfig, Weights};
use tch::{Device, Kind, Tensor};

use crate::layers::{Linear, Loader, Parameter, RmsNorm};
use crate::loss::cross_entropy_sum;
use crate::rotary::Rotary;

pub struct Llama {
    embed_tokens: Tensor, // [vocab, hidden]
    layers: Vec<DecoderLayer>,
    norm: RmsNorm,
    lm_head: Linear, // [vocab, hidden]; where tied, embed_tokens itself
    rotary: Rotary,
    compute: Kind,
    parameters: Vec<Parameter>,
}

impl Llama {
    /// Builds the model from `weights`. Matrix products run in `compute` (f32, f64 or bf16),
    /// whatever the dtype in which the weights are kept.
    pub fn new(
        config: &LlamaConfig,
        weights: &Weights,
        compute: Kind,
        device: Device,
    ) -> Result<Self> {
        let mut load = Loader { weights, parameters: vec![] };
        let embedding = [config.vocab_size, config.hidden_size];
        let embed_tokens = load.get("model.embed_tokens.weight", &embedding)?;
        let layers = (0..config.num_hidden_layers)
            .map(|i| DecoderLayer::new(config, &mut load, &format!("model.layers.{i}")))
            .collect::<Result<_>>()?;
        let norm = RmsNorm::new(config, &mut load, "model.norm")?;
        let lm_head = match config.tie_word_embeddings {
            true => Linear { weight: embed_tokens.shallow_clone() },
            false => Linear { weight: load.get("lm_head.weight", &embedding)? },
        };
        let rotary = Rotary::new(config, compute, device);
        let parameters = load.parameters;
        Ok(Self { embed_tokens, layers, norm, lm_head, rotary, compute, parameters })
    }

    /// Scores for the next token. `tokens`: `[batch, seq]`, i64; returns `[batch, seq, vocab]`.
    pub fn forward(&self, tokens: &Tensor) -> Tensor {
        self.lm_head.forward(&self.hidden(tokens))
    }

    /// Sum over all tokens of −log p(target). `tokens`, `targets`: `[batch, seq]`, i64.
    pub fn loss(&self, tokens: &Tensor, targets: &Tensor) -> Result<Tensor> {
        cross_entropy_sum(&self.hidden(tokens), &self.lm_head.weight, targets)
    }

    /// What the head reads: `[batch, seq, hidden]`.
    fn hidden(&self, tokens: &Tensor) -> Tensor {
        let (cos, sin) = self.rotary.tables(tokens.size()[1]); // [seq, 1, head_dim]
        let x = Tensor::embedding(&self.embed_tokens, tokens, -1, false, false);
        let mut x = x.to_kind(self.compute); // [batch, seq, hidden]
        for layer in &self.layers {
            x = layer.forward(&x, &cos, &sin);
        }
        self.norm.forward(&x) // [batch, seq, hidden]
    }

    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }
}

struct DecoderLayer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl DecoderLayer {
    fn new(config: &LlamaConfig, load: &mut Loader, name: &str) -> Result<Self> {
        Ok(Self {
            input_layernorm: RmsNorm::new(config, load, &format!("{name}.input_layernorm"))?,
            self_attn: Attention::new(config, load, &format!("{name}.self_attn"))?,
            post_attention_layernorm: RmsNorm::new(
                config,
                load,
                &format!("{name}.post_attention_layernorm"),
            )?,
            mlp: Mlp::new(config, load, &format!("{name}.mlp"))?,
        })
    }

    fn forward(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
        let x = x + self.self_attn.forward(&self.input_layernorm.forward(x), cos, sin);
        &x + self.mlp.forward(&self.post_attention_layernorm.forward(&x)) // [batch, seq, hidden]
    }
}

/// Causal self-attention; groups of query heads share a key/value head.
struct Attention {
    q_proj: Linear, // [heads·head_dim, hidden]
    k_proj: Linear, // [kv_heads·head_dim, hidden]
    v_proj: Linear, // [kv_heads·head_dim, hidden]
    o_proj: Linear, // [hidden, heads·head_dim]
    head_dim: i64,
}

impl Attention {
    fn new(config: &LlamaConfig, load: &mut Loader, name: &str) -> Result<Self> {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim());
        let (q, kv) = (config.num_attention_heads * head_dim, config.kv_heads() * head_dim);
        Ok(Self {
            q_proj: Linear::new(load, &format!("{name}.q_proj"), q, hidden)?,
            k_proj: Linear::new(load, &format!("{name}.k_proj"), kv, hidden)?,
            v_proj: Linear::new(load, &format!("{name}.v_proj"), kv, hidden)?,
            o_proj: Linear::new(load, &format!("{name}.o_proj"), hidden, q)?,
            head_dim,
        })
    }

    fn forward(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
        // To [batch, seq, heads, head_dim].
        let heads = |x: Tensor| x.unflatten(-1, [-1, self.head_dim]);
        let [q, k, v] = Linear::together([&self.q_proj, &self.k_proj, &self.v_proj], x).map(heads);
        let (q, k) = (Rotary::apply(&q, cos, sin), Rotary::apply(&k, cos, sin));
        let out = autograd::causal_attention(&q, &k, &v); // [batch, seq, heads, head_dim]
        self.o_proj.forward(&out.flatten(2, 3)) // [batch, seq, hidden]
    }
}

/// SwiGLU (Shazeer, 2020).
struct Mlp {
    gate_proj: Linear, // [intermediate, hidden]
    up_proj: Linear,   // [intermediate, hidden]
    down_proj: Linear, // [hidden, intermediate]
}

impl Mlp {
    fn new(config: &LlamaConfig, load: &mut Loader, name: &str) -> Result<Self> {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            gate_proj: Linear::new(load, &format!("{name}.gate_proj"), intermediate, hidden)?,
            up_proj: Linear::new(load, &format!("{name}.up_proj"), intermediate, hidden)?,
            down_proj: Linear::new(load, &format!("{name}.down_proj"), hidden, intermediate)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let [gate, up] = Linear::together([&self.gate_proj, &self.up_proj], x); // [.., intermediate]
        self.down_proj.forward(&(gate.silu() * up)) // [batch, seq, hidden]
    }
}
