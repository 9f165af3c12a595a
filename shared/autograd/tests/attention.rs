//! Fused attention against the formula, whole and in blocks.

use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

fn leaf(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, F64).set_requires_grad(true)
}

/// softmax(q·kᵀ/√d)·v with every matrix written out, key/value heads repeated.
fn plain_attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let (seq, heads, dim) = (q.size()[1], q.size()[2], q.size()[3]);
    let [q, k, v] = [q, k, v]
        .map(|t| t.transpose(1, 2).repeat_interleave_self_int(heads / t.size()[2], 1, None));
    let future = Tensor::ones([seq, seq], (Kind::Bool, Device::Cpu)).triu(1);
    let scores = q.matmul(&k.transpose(2, 3)) / (dim as f64).sqrt();
    let weights = scores.masked_fill(&future, f64::NEG_INFINITY).softmax(-1, Kind::Double);
    weights.matmul(&v).transpose(1, 2)
}

#[test]
fn causal_attention_is_the_formula_with_shared_key_value_heads_too() {
    for kv_heads in [1, 2, 4] {
        let q = leaf(&[2, 9, 4, 6]);
        let (k, v) = (leaf(&[2, 9, kv_heads, 6]), leaf(&[2, 9, kv_heads, 6]));
        let weight = Tensor::randn([2, 9, 4, 6], F64);
        let run = |f: fn(&Tensor, &Tensor, &Tensor) -> Tensor| {
            let out = f(&q, &k, &v);
            let grads = Tensor::run_backward(
                &[(&out * &weight).sum(Kind::Double)],
                &[&q, &k, &v],
                false,
                false,
            );
            std::iter::once(out.detach()).chain(grads).collect::<Vec<_>>()
        };
        // The same sums of a few dozen terms of size one, in another order.
        for (fused, plain) in run(autograd::causal_attention).iter().zip(run(plain_attention)) {
            let error = (fused - plain).abs().max().double_value(&[]);
            assert!(error < 1e-13, "{kv_heads} key/value heads: {error}");
        }
    }
}

#[test]
fn blocks_of_attention_merge_into_the_whole() {
    // Two halves of the keys, merged by log-sum-exp: the second half of the queries sees both.
    let (q, k, v) = (leaf(&[2, 8, 4, 6]), leaf(&[2, 8, 2, 6]), leaf(&[2, 8, 2, 6]));
    let weight = Tensor::randn([2, 8, 4, 6], F64);
    let whole = autograd::causal_attention(&q, &k, &v);
    let grads =
        Tensor::run_backward(&[(&whole * &weight).sum(Kind::Double)], &[&q, &k, &v], false, false);

    let [q, k, v, weight] = [&q, &k, &v, &weight].map(|t| t.detach().transpose(1, 2));
    let half = |t: &Tensor, i: i64| t.narrow(2, 4 * i, 4); // [batch, heads, 4, dim]
    let (before, before_lse) =
        autograd::attention_block(&half(&q, 1), &half(&k, 0), &half(&v, 0), false);
    let (own, own_lse) = autograd::attention_block(&half(&q, 1), &half(&k, 1), &half(&v, 1), true);
    let lse = before_lse.logaddexp(&own_lse);
    let share = |part: &Tensor| (part - &lse).exp().unsqueeze(-1);
    let out = before * share(&before_lse) + own * share(&own_lse);
    let close = |a: &Tensor, b: &Tensor| {
        let error = (a - b).abs().max().double_value(&[]);
        assert!(error < 1e-13, "{error}"); // sums of a few terms of size one, in another order
    };
    close(&out, &half(&whole.detach().transpose(1, 2), 1));

    // The gradients of the later half of k and v come from one block alone.
    let [_, grad_k, grad_v] = autograd::attention_block_backward(
        &half(&weight, 1),
        &half(&q, 1),
        &half(&k, 1),
        &half(&v, 1),
        &out,
        &lse,
        true,
    );
    close(&grad_k, &half(&grads[1].transpose(1, 2), 1));
    close(&grad_v, &half(&grads[2].transpose(1, 2), 1));
}

/// What f32 and f64 take on a GPU, where the fused kernel does not know them.
#[test]
fn plain_products_compute_what_the_fused_kernel_computes() {
    for (causal, keys) in [(true, 8), (false, 5)] {
        let [q, grad] = [0, 1].map(|_| Tensor::randn([2, 6, 8, 4], F64));
        let [k, v] = [0, 1].map(|_| Tensor::randn([2, 3, keys, 4], F64));
        let (out, lse) = autograd::attention_block(&q, &k, &v, causal);
        let (plain, plain_lse) = autograd::products::forward(&q, &k, &v, causal);
        // As of one block among several: the softmax over all of them is wider.
        let (all, all_lse) = (&out * 0.7, &lse + 0.5);
        let inputs = [&grad, &q, &k, &v, &all, &all_lse];
        let [gq, gk, gv] =
            autograd::attention_block_backward(&grad, &q, &k, &v, &all, &all_lse, causal);
        let [pq, pk, pv] = autograd::products::backward(inputs, causal);
        for (a, b) in [(out, plain), (lse, plain_lse), (gq, pq), (gk, pk), (gv, pv)] {
            // Sums of a few dozen terms of size one, in another order.
            let error = (a - b).abs().max().double_value(&[]);
            assert!(error < 1e-13, "causal {causal}: {error}");
        }
    }
}
