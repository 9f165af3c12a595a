//! `attention`: on GPU 0, the fused kernel for one block of keys beside plain products, in numbers: views
//! such as the ring hands over, forward and backward, for the shapes of real models.

use anyhow::{Result, anyhow, ensure};
use autograd::{attention_block, attention_block_backward, products};
use tch::{Device, Kind, Tensor};

/// Positions of a sequence; a block is all of it, or half.
const SEQ: i64 = 128;
/// Inputs are the same; the kernel rounds weights, their gradients and results to bf16, each by up to 2⁻⁹.
const BOUND: f64 = 0.02;

fn main() -> Result<()> {
    gpu::load().map_err(|why| anyhow!("no GPU: {why}"))?;
    for head_dim in [16, 64, 128] {
        for [heads, kv_heads] in [[4, 4], [8, 2]] {
            let half = SEQ / 2;
            // Queries from, keys from, how many, causal: the tiles of both layouts of a sequence.
            for (queries, keys, length, causal) in [
                (0, 0, SEQ, true),
                (0, 0, SEQ, false),
                (0, 0, half, true),
                (half, half, half, true),
                (half, 0, half, false),
            ] {
                let name = format!(
                    "{heads}/{kv_heads} heads of {head_dim}, {length} queries from {queries}, keys from {keys}, causal {causal}"
                );
                tile([heads, kv_heads, head_dim], [queries, keys, length], causal)
                    .map_err(|why| anyhow!("{name}: {why}"))?;
            }
        }
    }
    Ok(())
}

fn tile(
    [heads, kv_heads, head_dim]: [i64; 3],
    [queries, keys, length]: [i64; 3],
    causal: bool,
) -> Result<()> {
    // As a model's product leaves them: positions before heads, and a slice of the sequence.
    let draw = |heads: i64, from: i64| {
        let numbers = Tensor::randn([2, SEQ, heads, head_dim], (Kind::Float, Device::Cpu));
        let numbers = numbers.to_kind(Kind::BFloat16).to_device(Device::Cuda(0));
        numbers.transpose(1, 2).narrow(2, from, length) // [batch, heads, length, head_dim]
    };
    let [q, k, v] = [(heads, queries), (kv_heads, keys), (kv_heads, keys)].map(|(h, f)| draw(h, f));
    let grad = draw(heads, 0);
    let wide = |t: &Tensor| t.to_kind(Kind::Float);
    let [wide_q, wide_k, wide_v, wide_grad] = [&q, &k, &v, &grad].map(wide);

    let (out, lse) = attention_block(&q, &k, &v, causal);
    let (expected, expected_lse) = products::forward(&wide_q, &wide_k, &wide_v, causal);
    near("output", &out, &expected)?;
    near("log-sum-exp", &lse, &expected_lse)?;

    // Backward the block is one of two: the other has as much weight again, and an output of its own.
    let other = draw(heads, 0);
    let both = (&expected + wide(&other)) * 0.5;
    let both_lse = &expected_lse + 2_f64.ln();
    let rounded = both.to_kind(Kind::BFloat16);
    let mine = attention_block_backward(&grad, &q, &k, &v, &rounded, &both_lse, causal);
    let inputs = [&wide_grad, &wide_q, &wide_k, &wide_v, &wide(&rounded), &both_lse];
    for ((name, mine), expected) in
        ["q", "k", "v"].iter().zip(&mine).zip(products::backward(inputs, causal))
    {
        near(&format!("gradient of {name}"), mine, &expected)?;
    }
    Ok(())
}

fn near(name: &str, mine: &Tensor, expected: &Tensor) -> Result<()> {
    let mine = mine.to_kind(Kind::Float);
    let error = ((mine - expected).norm() / expected.norm()).double_value(&[]);
    ensure!(error < BOUND, "{name} is off by {error:.1e} of its length");
    Ok(())
}
