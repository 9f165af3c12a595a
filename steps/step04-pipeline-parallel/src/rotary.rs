//! Rotary position embedding (Su et al., *RoFormer*), in the half-split form of Hugging Face.

use anyhow::Result;
use checkpoint::LlamaConfig;
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// Pairs dimension i of a head with dimension i + head_dim/2, and rotates the pair by
/// position · frequency_i: the score of a query and a key then depends only on their distance.
pub struct Rotary {
    cos: Tensor,  // [positions, 1, head_dim]
    sin: Tensor,  // [positions, 1, head_dim], with a minus in the first half
    back: Tensor, // −sin, for the backward pass
}

impl Rotary {
    /// Tables for all positions that `config` allows.
    pub fn new(config: &LlamaConfig, kind: Kind, device: Device) -> Self {
        let positions = Tensor::arange(config.max_position_embeddings, (Kind::Double, Device::Cpu));
        let frequencies = Tensor::from_slice(&frequencies(config)); // [head_dim/2]
        let angles = positions.outer(&frequencies); // [positions, head_dim/2]
        let (cos, sin, minus_sin) = (angles.cos(), angles.sin(), angles.sin().neg());
        let table = |first: &Tensor, second: &Tensor| {
            let table = Tensor::cat(&[first, second], 1).unsqueeze(1); // [positions, 1, head_dim]
            table.to_kind(kind).to_device(device)
        };
        let (back, sin) = (table(&sin, &minus_sin), table(&minus_sin, &sin));
        Self { cos: table(&cos, &cos), sin, back }
    }

    /// The tables of the first `seq` positions.
    pub fn first(&self, seq: i64) -> Self {
        let [cos, sin, back] = [&self.cos, &self.sin, &self.back].map(|t| t.narrow(0, 0, seq));
        Self { cos, sin, back } // [seq, 1, head_dim]
    }

    /// Rotates every head of `x`, `[batch, seq, heads, head_dim]`; its gradient is rotated back.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let rotated = tch::no_grad(|| rotate(x, &self.cos, &self.sin));
        let (cos, back) = (self.cos.shallow_clone(), self.back.shallow_clone());
        autograd::custom([x], &rotated, move |grad| Ok([rotate(grad, &cos, &back)]))
    }
}

/// The halves a and b of each head become a·cos − b·sin and b·cos + a·sin; the minus is in the table.
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let rotated = x * cos;
    let halves = |t: &Tensor| -> [Tensor; 2] { t.chunk(2, -1).try_into().expect("cut in two") };
    let ([a, b], [minus_sin, sin]) = (halves(x), halves(sin));
    let [mut first, mut second] = halves(&rotated);
    let _ = first.addcmul_(&b, &minus_sin);
    let _ = second.addcmul_(&a, &sin);
    rotated
}

/// θ^(−2i/head_dim) for every pair i. Llama 3.1 slows the low frequencies down further, for contexts
/// longer than those it was first trained on (the idea is from *YaRN*, Peng et al., 2023; the formula
/// from Llama's reference code).
fn frequencies(config: &LlamaConfig) -> Vec<f64> {
    let head_dim = config.head_dim();
    let plain =
        (0..head_dim / 2).map(|i| config.rope_theta.powf(-2.0 * i as f64 / head_dim as f64));
    let Some(scaling) = &config.rope_scaling else { return plain.collect() };
    let context = scaling.original_max_position_embeddings as f64;
    plain
        .map(|frequency| {
            // How often a pair turns within the original context decides how much it is slowed.
            let turns = context * frequency / (2.0 * PI);
            let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
            let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            frequency * (keep + (1.0 - keep) / scaling.factor)
        })
        .collect()
}
