//! The two layers that everything else is made of, and how they get their weights.

use anyhow::Result;
use checkpoint::{LlamaConfig, Weights};
use tch::Tensor;

/// A trainable tensor under its Hugging Face name.
pub struct Parameter {
    pub name: String,
    pub tensor: Tensor,
}

/// Fetches weights by name and remembers what it gave out.
pub struct Loader<'a> {
    pub weights: &'a Weights,
    /// In the order of the forward pass.
    pub parameters: Vec<Parameter>,
}

impl Loader<'_> {
    pub fn get(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = self.weights.get(name, shape)?;
        self.parameters.push(Parameter { name: name.to_owned(), tensor: tensor.shallow_clone() });
        Ok(tensor)
    }
}

/// y = x·Wᵀ, without bias.
pub struct Linear {
    pub weight: Tensor, // [out, in]
}

impl Linear {
    pub fn new(load: &mut Loader, name: &str, out: i64, input: i64) -> Result<Self> {
        Ok(Self { weight: load.get(&format!("{name}.weight"), &[out, input])? })
    }

    /// `[.., in]` to `[.., out]`. The product runs in the dtype of `x`; where the weight is kept in
    /// another, autograd casts its gradient back.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight.to_kind(x.kind()), None::<&Tensor>)
    }

    /// What several layers make of the same `x`, in one product: their weights stand below each
    /// other.
    pub fn together<const N: usize>(layers: [&Self; N], x: &Tensor) -> [Tensor; N] {
        let weight = Tensor::cat(&layers.map(|layer| &layer.weight), 0); // [sum of outs, in]
        let outs = layers.map(|layer| layer.weight.size()[0]);
        let out = Linear { weight }.forward(x); // [.., sum of outs]
        let mut parts = out.split_with_sizes(outs, -1).into_iter();
        outs.map(|_| parts.next().expect("split into as many"))
    }
}

/// x / √(mean(x²) + ε) · w (Zhang & Sennrich, 2019).
pub struct RmsNorm {
    weight: Tensor, // [hidden]
    eps: f64,
}

impl RmsNorm {
    pub fn new(config: &LlamaConfig, load: &mut Loader, name: &str) -> Result<Self> {
        let weight = load.get(&format!("{name}.weight"), &[config.hidden_size])?;
        Ok(Self { weight, eps: config.rms_norm_eps })
    }

    /// `[.., hidden]` to the same shape. The mean is taken in the weight's dtype (f32 under bf16).
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let wide = x.to_kind(self.weight.kind());
        wide.rms_norm(self.weight.size(), Some(&self.weight), self.eps).to_kind(x.kind())
    }
}
