//! Llama (Touvron et al., 2023), as Hugging Face defines it and under its parameter names.

use anyhow::{Context, Result};
use autograd::{Input, Module, Rotation};
use checkpoint::{LlamaConfig, Weights};
use std::ops::Range;
use tch::{Device, IndexOp, Kind, Tensor};

use crate::activations::Recompute;
use crate::context_parallel::ContextParallel;
use crate::layers::{
    ColumnParallelLinear, EMBEDDING, Loader, Parameter, RmsNorm, RowParallelLinear,
};
use crate::rotary::rotary;
use crate::tensor_parallel::TensorParallel;
use crate::vocab_parallel::VocabParallel;

/// One stage of the model.
pub struct Llama {
    embed_tokens: Option<Tensor>, // on the first stage: [vocab/tp, hidden]
    layers: Vec<Module<DecoderLayer>>,
    head: Option<Head>, // on the last stage
    rotary: Rotation,
    compute: Kind,
    /// What the backward pass computes again.
    pub recompute: Recompute,
    /// The ranks that share every matrix.
    pub tp: TensorParallel,
    vocab: VocabParallel,
    cp: ContextParallel,
    parameters: Vec<Parameter>,
}

struct Head {
    norm: RmsNorm,
    lm_head: Tensor, // [vocab/tp, hidden]; where tied, embed_tokens itself or a copy
}

impl Llama {
    /// Builds the stage that has the layers `stage` from `weights`. Matrix products run in
    /// `compute` (f32, f64 or bf16), whatever dtype the weights are kept in.
    pub fn new(
        config: &LlamaConfig,
        weights: &Weights,
        compute: Kind,
        device: Device,
        tp: &TensorParallel,
        cp: &ContextParallel,
        stage: Range<i64>,
    ) -> Result<Self> {
        let mut load = Loader { weights, tp, tied: config.tie_word_embeddings, parameters: vec![] };
        let embedding = [config.vocab_size, config.hidden_size];
        let (first, last) = (stage.start == 0, stage.end == config.num_hidden_layers);
        let embed_tokens = first.then(|| load.get(EMBEDDING, &embedding, Some(0))).transpose()?;
        let layers = stage
            .map(|i| DecoderLayer::new(config, &mut load, &format!("model.layers.{i}")))
            .map(|layer| layer.map(Module::new))
            .collect::<Result<_>>()?;
        let head = last.then(|| Head::new(config, &mut load, embed_tokens.as_ref())).transpose()?;
        let rotary = rotary(config, &cp.positions, compute, device);
        let vocab = VocabParallel::new(config.vocab_size, &tp.group);
        let parameters = load.parameters;
        let (tp, cp) = (tp.clone(), cp.clone());
        Ok(Self {
            embed_tokens,
            layers,
            head,
            rotary,
            compute,
            recompute: Recompute::None,
            tp,
            vocab,
            cp,
            parameters,
        })
    }

    /// Runs the stage's layers on `x`, received from the previous stage; the first stage runs them
    /// on the embeddings of `tokens`. `tokens`: `[batch, seq/cp]`, i64; `x` and what is returned:
    /// `[batch, seq/cp, hidden]`, or this rank's `seq/(cp·tp)` tokens of it.
    pub fn forward(&self, tokens: &Tensor, x: Option<&Tensor>) -> Result<Tensor> {
        let mut x = match x {
            Some(x) => x.shallow_clone(),
            None => self.embed(tokens)?,
        };
        let (again, whole) = match self.recompute {
            Recompute::None => (false, false),
            Recompute::Elementwise => (true, false),
            Recompute::Layer => (false, true),
        };
        for layer in &self.layers {
            let (rotary, cp) = (self.rotary.clone(), self.cp.clone());
            let forward =
                move |layer: &DecoderLayer, x: &Tensor| layer.forward(x, &rotary, &cp, again);
            x = layer.run(&x, whole, forward)?;
        }
        Ok(x)
    }

    fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        let weight = self.embed_tokens.as_ref().context("only the first stage embeds")?;
        let partial = self.vocab.embedding(tokens, weight).to_kind(self.compute);
        self.tp.g(partial) // [batch, seq/(cp·tp), hidden]
    }

    /// Sum over all tokens of −log p(target), on the last stage. `x`: `[batch, seq/(cp·tp), hidden]`,
    /// `targets`: `[batch, seq/cp]`, i64.
    pub fn loss(&self, x: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let Head { norm, lm_head } =
            self.head.as_ref().context("only the last stage has a head")?;
        let x = self.tp.f(&norm.forward(x))?;
        self.vocab.cross_entropy_sum(&x, lm_head, targets)
    }

    /// Logits for the token after position `last`: `[vocab]`, the same on all tp ranks of the last
    /// stage that have this position, and zeros on other ranks. `x`: `[1, seq/(cp·tp), hidden]`.
    pub fn next_token(&self, x: &Tensor, last: i64) -> Result<Tensor> {
        let (Some(Head { norm, lm_head }), Some(row)) = (&self.head, self.cp.row(last)) else {
            return Ok(Tensor::zeros([self.vocab.size], (x.kind(), x.device())));
        };
        let x = norm.forward(&self.tp.whole(x)?.i((0, row))); // [hidden]
        let logits = autograd::linear(&x, &lm_head.to_kind(x.kind())); // [vocab/tp]
        self.vocab.gather(&logits)
    }

    /// The trainable tensors, in the order of the forward pass.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }
}

impl Head {
    fn new(config: &LlamaConfig, load: &mut Loader, embed_tokens: Option<&Tensor>) -> Result<Self> {
        let norm = RmsNorm::new(config, load, "model.norm")?;
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let lm_head = match (load.tied, embed_tokens) {
            (true, Some(weight)) => weight.shallow_clone(),
            (true, None) => load.get(EMBEDDING, &[vocab, hidden], Some(0))?, // another stage is first
            (false, _) => load.get("lm_head.weight", &[vocab, hidden], Some(0))?,
        };
        Ok(Self { norm, lm_head })
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

    /// `[batch, seq/(cp·tp), hidden]` to the same shape. With `again`, the backward pass computes
    /// norms and SwiGLU once more.
    fn forward(
        &self,
        x: &Tensor,
        rotary: &Rotation,
        cp: &ContextParallel,
        again: bool,
    ) -> Result<Tensor> {
        let read = self.input_layernorm.before_product(x, again);
        let x = x + self.self_attn.forward(read, rotary, cp)?;
        let read = self.post_attention_layernorm.before_product(&x, again);
        Ok(&x + self.mlp.forward(read, again)?)
    }
}

/// Causal self-attention, softmax(q·kᵀ/√head_dim)·v; groups of query heads share a key/value head.
/// A rank has whole groups.
struct Attention {
    qkv_proj: ColumnParallelLinear, // [(heads + 2·kv_heads)/tp·head_dim, hidden]
    o_proj: RowParallelLinear,      // [hidden, heads/tp·head_dim]
    /// Of queries, keys and values on this rank.
    heads: [i64; 3],
    head_dim: i64,
}

impl Attention {
    fn new(config: &LlamaConfig, load: &mut Loader, name: &str) -> Result<Self> {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim());
        let (q, kv) = (config.num_attention_heads, config.kv_heads());
        let ranks = load.tp.group.size() as i64;
        let qkv = [("q_proj", q * head_dim), ("k_proj", kv * head_dim), ("v_proj", kv * head_dim)];
        Ok(Self {
            qkv_proj: ColumnParallelLinear::new(load, name, &qkv, hidden)?,
            o_proj: RowParallelLinear::new(load, &format!("{name}.o_proj"), hidden, q * head_dim)?,
            heads: [q / ranks, kv / ranks, kv / ranks],
            head_dim,
        })
    }

    /// `[batch, seq/(cp·tp), hidden]` to the same shape.
    fn forward(&self, x: Input, rotary: &Rotation, cp: &ContextParallel) -> Result<Tensor> {
        let qkv = self.qkv_proj.forward(x)?.unflatten(-1, [-1, self.head_dim]);
        let parts = qkv.split_with_sizes(self.heads, 2); // [batch, seq/cp, heads/tp, head_dim] each
        let [q, k, v] = parts.try_into().expect("split into three");
        let (q, k) = (rotary.apply(&q)?, rotary.apply(&k)?);
        let out = cp.attention(&q, &k, &v)?; // [batch, seq/cp, heads/tp, head_dim]
        self.o_proj.forward(out.flatten(2, 3))
    }
}

/// The feed-forward half of a layer: SwiGLU (Shazeer, 2020), and a product behind it.
struct Mlp {
    gate_up_proj: ColumnParallelLinear, // [2·intermediate/tp, hidden]
    down_proj: RowParallelLinear,       // [hidden, intermediate/tp]
}

impl Mlp {
    fn new(config: &LlamaConfig, load: &mut Loader, name: &str) -> Result<Self> {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let gate_up = [("gate_proj", intermediate), ("up_proj", intermediate)];
        Ok(Self {
            gate_up_proj: ColumnParallelLinear::new(load, name, &gate_up, hidden)?,
            down_proj: RowParallelLinear::new(
                load,
                &format!("{name}.down_proj"),
                hidden,
                intermediate,
            )?,
        })
    }

    /// down(silu(gate(x)) ⊙ up(x)): `[.., hidden]` to the same shape.
    fn forward(&self, x: Input, again: bool) -> Result<Tensor> {
        self.down_proj.forward(self.gate_up_proj.swiglu(x, again)?)
    }
}
