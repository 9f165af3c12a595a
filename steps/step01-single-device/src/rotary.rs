//! Rotary position embedding (Su et al., *RoFormer*), in the half-split form of Hugging Face.

use anyhow::Result;
use checkpoint::LlamaConfig;
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// Dimension i of a head is paired with dimension i + head_dim/2, and the pair turned by
/// position · frequency_i, so that a query and a key see only how far apart they are.
pub struct Rotary {
    cos: Tensor, // [positions, 1, head_dim]
    sin: Tensor, // [positions, 1, head_dim]
}

impl Rotary {
    /// The tables of all positions that `config` allows.
    pub fn new(config: &LlamaConfig, kind: Kind, device: Device) -> Self {
        let positions = Tensor::arange(config.max_position_embeddings, (Kind::Double, Device::Cpu));
        let frequencies = Tensor::from_slice(&frequencies(config)); // [head_dim/2]
        let angles = positions.outer(&frequencies); // [positions, head_dim/2]
        let (cos, sin) = (angles.cos(), angles.sin());
        let place = |first: &Tensor, second: &Tensor| {
            let table = Tensor::cat(&[first, second], 1).unsqueeze(1); // [positions, 1, head_dim]
            table.to_kind(kind).to_device(device)
        };
        Self { cos: place(&cos, &cos), sin: place(&-&sin, &sin) }
    }

    /// Cosines and sines of the first `seq` positions: `[seq, 1, head_dim]` each.
    pub fn tables(&self, seq: i64) -> (Tensor, Tensor) {
        (self.cos.narrow(0, 0, seq), self.sin.narrow(0, 0, seq))
    }

    /// Turns every head of `x`, `[batch, seq, heads, head_dim]`. Its gradient is turned back.
    pub fn apply(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let turned = tch::no_grad(|| turn(x, cos, sin));
        let (cos, back) = (cos.shallow_clone(), -sin);
        autograd::custom([x], &turned, move |grad| Ok([turn(grad, &cos, &back)]))
    }
}

/// The halves a and b of each head to a·cos − b·sin and b·cos + a·sin; the first sine's sign is in
/// the table.
fn turn(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let turned = x * cos;
    let halves = |t: &Tensor| -> [Tensor; 2] { t.chunk(2, -1).try_into().expect("cut in two") };
    let ([a, b], [minus_sin, sin]) = (halves(x), halves(sin));
    let [mut first, mut second] = halves(&turned);
    let _ = first.addcmul_(&b, &minus_sin);
    let _ = second.addcmul_(&a, &sin);
    turned
}

/// θ^(−2i/head_dim) for every pair i; Llama 3.1 stretches the slow ones, for contexts longer than
/// those it was first trained on (the idea is that of *YaRN*, Peng et al., 2023; the formula, the
/// reference code's).
fn frequencies(config: &LlamaConfig) -> Vec<f64> {
    let head_dim = config.head_dim();
    let plain =
        (0..head_dim / 2).map(|i| config.rope_theta.powf(-2.0 * i as f64 / head_dim as f64));
    let Some(scaling) = &config.rope_scaling else { return plain.collect() };
    let context = scaling.original_max_position_embeddings as f64;
    plain
        .map(|frequency| {
            // How often a pair turns within the original context decides what happens to it.
            let turns = context * frequency / (2.0 * PI);
            let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
            let keep = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            frequency * (keep + (1.0 - keep) / scaling.factor)
        })
        .collect()
}
