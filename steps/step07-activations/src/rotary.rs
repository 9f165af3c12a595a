//! The angles of the rotary position embedding (Su et al., *RoFormer*, 2021).

use autograd::Rotation;
use checkpoint::LlamaConfig;
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// For tokens at these positions, `[seq/cp]`, the rotation of each pair i of a head's dimensions, i
/// and i + head_dim/2, by position · frequency_i: the score of a query and a key then depends only
/// on their distance. What counts is a token's place in the whole sequence, not on this rank.
pub fn rotary(config: &LlamaConfig, positions: &Tensor, kind: Kind, device: Device) -> Rotation {
    let positions = positions.to_device(Device::Cpu).to_kind(Kind::Double); // [seq/cp]
    let frequencies = Tensor::from_slice(&frequencies(config)); // [head_dim/2]
    let angles = positions.outer(&frequencies); // [seq/cp, head_dim/2]
    Rotation::new(&angles, kind, device)
}

/// θ^(−2i/head_dim) for every pair i. Llama 3.1 slows the low frequencies down further, for
/// contexts longer than those it was first trained on (the idea is from *YaRN*, Peng et al., 2023;
/// the formula from Llama's reference code).
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
