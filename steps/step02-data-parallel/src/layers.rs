//! The layers that everything else is built from, and how they get their weights.

use anyhow::Result;
use autograd::Stacked;
use checkpoint::{LlamaConfig, Weights};
use tch::Tensor;

/// A trainable tensor.
pub struct Parameter {
    /// As Hugging Face calls it.
    pub name: String,
    /// Its numbers, with their gradient in `.grad`.
    pub tensor: Tensor,
    /// Whether weight decay acts on it: on matrices, and not on the gains of norms.
    pub decays: bool,
}

/// Fetches weights by name, and lists those it has fetched.
pub struct Loader<'a> {
    /// Where they come from.
    pub weights: &'a Weights,
    /// In the order of the forward pass.
    pub parameters: Vec<Parameter>,
}

impl Loader<'_> {
    /// The tensor `name`, which must have this shape.
    pub fn get(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = self.weights.get(name, shape)?;
        self.parameters.push(Parameter {
            name: name.to_owned(),
            tensor: tensor.shallow_clone(),
            decays: shape.len() == 2,
        });
        Ok(tensor)
    }
}

/// y = x·Wᵀ without bias. Several W that read the same `x` are fused into one product.
pub struct Linear {
    weights: Stacked, // [sum of outs, in]
}

impl Linear {
    /// `layers`: the name of each W, under `prefix`, and its number of outputs.
    pub fn new(
        load: &mut Loader,
        prefix: &str,
        layers: &[(&str, i64)],
        input: i64,
    ) -> Result<Self> {
        let get = |(name, out): &(&str, i64)| {
            load.get(&format!("{prefix}.{name}.weight"), &[*out, input])
        };
        Ok(Self { weights: Stacked::new(layers.iter().map(get).collect::<Result<_>>()?) })
    }

    /// `[.., in]` to `[.., sum of outs]`. The product runs in the dtype of `x`; gradients are added
    /// up in that of the weights.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.weights.linear(x)
    }

    /// SwiGLU of two W: silu(x·W₁ᵀ) ⊙ x·W₂ᵀ, `[.., in]` to `[.., out]`.
    pub fn swiglu(&self, x: &Tensor) -> Result<Tensor> {
        self.weights.swiglu(x)
    }
}

/// x / √(mean(x²) + ε) · w (Zhang & Sennrich, 2019).
pub struct RmsNorm {
    weight: Tensor, // [hidden]
    eps: f64,
}

impl RmsNorm {
    /// The norm whose weight is `name`.weight.
    pub fn new(config: &LlamaConfig, load: &mut Loader, name: &str) -> Result<Self> {
        let weight = load.get(&format!("{name}.weight"), &[config.hidden_size])?;
        Ok(Self { weight, eps: config.rms_norm_eps })
    }

    /// `[.., hidden]` to the same shape. A bf16 `x` is normalised in f32.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let weight = self.weight.to_kind(x.kind());
        x.rms_norm(weight.size(), Some(&weight), self.eps)
    }
}
