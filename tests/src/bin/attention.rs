//! `attention`: on GPU 0, the fused kernels beside plain products, in numbers, forward and
//! backward, for the shapes of real models: that for whole sequences, on views of a product as a
//! model has them, and that for one block of keys, on views such as the ring hands over.

use anyhow::{Result, anyhow, ensure};
use autograd::{attention_block, attention_block_backward, causal_attention, products};
use tch::{Device, Kind, Tensor};

/// Positions of a sequence; a block is all of it, or half.
const SEQ: i64 = 128;

fn main() -> Result<()> {
    gpu::load().map_err(|why| anyhow!("no GPU: {why}"))?;
    for head_dim in [16, 64, 128] {
        for [heads, kv_heads] in [[4, 4], [8, 2]] {
            for kind in [Kind::BFloat16, Kind::Float] {
                // tch's operations panic where libtorch refuses.
                launch::in_one_sentence(|| whole([heads, kv_heads, head_dim], kind)).map_err(|why| {
                    let hint = if kind == Kind::BFloat16 { CUDNN } else { "" };
                    anyhow!("whole sequences, {kind:?}, {heads}/{kv_heads} heads of {head_dim}: {why}{hint}")
                })?;
            }
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

const CUDNN: &str = "\nlibtorch may have taken cuDNN's kernel: TORCH_CUDNN_SDPA_DEPRIORITIZED=1 in the \
                     environment makes it take its own";

/// The attention of every run without a ring. Which kernel it takes is libtorch's choice.
fn whole([heads, kv_heads, head_dim]: [i64; 3], kind: Kind) -> Result<()> {
    // Queries, keys and values side by side in one product.
    let size = [2, SEQ, heads + 2 * kv_heads, head_dim];
    let product = Tensor::randn(size, (Kind::Float, Device::Cpu)).to_kind(kind);
    let product = product.to_device(Device::Cuda(0)).set_requires_grad(true);
    let parts = |t: &Tensor| {
        [(0, heads), (heads, kv_heads), (heads + kv_heads, kv_heads)]
            .map(|(from, n)| t.narrow(2, from, n))
    };
    let [q, k, v] = parts(&product);
    let out = causal_attention(&q, &k, &v);
    let grad = out.randn_like();
    autograd::backward_with(&out, &grad)?;
    let silent = tch::no_grad(|| causal_attention(&q, &k, &v)); // cuDNN has another plan for it

    let wide = |t: &Tensor| t.detach().to_kind(Kind::Float).transpose(1, 2); // [batch, heads, seq, head_dim]
    let [q, k, v] = [&q, &k, &v].map(wide);
    let (expected, lse) = products::forward(&q, &k, &v, true);
    let grads = products::backward([&wide(&grad), &q, &k, &v, &expected, &lse], true);
    for (name, out) in [("output", &out), ("output without history", &silent)] {
        near(name, out, &expected.transpose(1, 2))?;
    }
    for ((name, mine), expected) in ["q", "k", "v"].iter().zip(parts(&product.grad())).zip(grads) {
        near(&format!("gradient of {name}"), &mine, &expected.transpose(1, 2))?;
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

    // Backward the block is one of two: the other has as much weight again, and an
    // output of its own.
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

/// Inputs are the same; kernels round weights, their gradients and results, in bf16 each by up to
/// 2⁻⁸. In f32 sums of some hundred terms are in another order.
fn near(name: &str, mine: &Tensor, expected: &Tensor) -> Result<()> {
    let bound = if mine.kind() == Kind::Float { 1e-4 } else { 0.02 };
    let mine = mine.to_kind(Kind::Float);
    let error = ((mine - expected).norm() / expected.norm()).double_value(&[]);
    ensure!(error < bound, "{name} is off by {error:.1e} of its length");
    Ok(())
}
