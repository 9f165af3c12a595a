//! Step 5, context parallelism: who has what, the tiles, a ring of attention, then the whole.

use comm::{Layout, Mesh};
use data::MicroBatch;
use launch::Launch;
use lessons::{
    Expected, Held, Model, PATIENCE, Updates, check, check_all, check_bytes,
    check_error_is_passed_on, check_grads, check_losses, check_norms, micro_batches, numbers,
    one_device, place, start, tokens, world, world_of,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use step05::config::{Config, CpLayout};
use step05::context_parallel::{ContextParallel, tile};
use step05::train::Trainer;
use tch::{Device, Kind, Tensor};

const LAYOUTS: [(CpLayout, &str); 2] =
    [(CpLayout::Contiguous, "contiguous"), (CpLayout::Zigzag, "zigzag")];

/// Tokens of a whole sequence: 2, 3 and 4 ranks can share them in both layouts.
const SEQ: i64 = 48;

fn ring(cp: usize) -> Layout {
    Layout { cp, ..Layout::default() }
}

fn name(mesh: &Mesh) -> String {
    place(mesh.layout, mesh.coords)
}

fn context_parallel(mesh: &Mesh, layout: &str) -> ContextParallel {
    let run = format!("--dp 1 --pp 1 --cp {} --cp-layout {layout} --seq-len {SEQ}", mesh.layout.cp);
    ContextParallel::new(&start::<Config>(5, &Model::default().flags(&run)).config, mesh)
}

/// The positions of rank `rank` of `ranks`, each of which has `rows`.
fn positions(layout: CpLayout, rank: i64, ranks: i64, rows: i64) -> Vec<i64> {
    let piece = |n: i64, length: i64| n * length..(n + 1) * length;
    match layout {
        CpLayout::Contiguous => piece(rank, rows).collect(),
        CpLayout::Zigzag if ranks == 1 => piece(0, rows).collect(),
        CpLayout::Zigzag => {
            piece(rank, rows / 2).chain(piece(2 * ranks - 1 - rank, rows / 2)).collect()
        }
    }
}

fn own(layout: CpLayout, rank: usize, cp: usize) -> Tensor {
    Tensor::from_slice(&positions(layout, rank as i64, cp as i64, SEQ / cp as i64))
}

// Who has what

#[test]
fn a_rank_has_the_tokens_of_its_positions_and_the_token_after_each() {
    for (layout, word) in LAYOUTS {
        for cp in [1, 2, 3] {
            let outcomes = world(ring(cp), move |mesh| {
                let text = tokens(3, 2, SEQ + 1, 259);
                let inputs = text.narrow(1, 0, SEQ);
                let targets = text.narrow(1, 1, SEQ);
                let shard = context_parallel(mesh, word).shard(&MicroBatch { inputs, targets });
                Ok((name(mesh), shard.inputs, shard.targets))
            });
            let text = tokens(3, 2, SEQ + 1, 259);
            for (rank, (place, inputs, targets)) in outcomes.iter().enumerate() {
                let at = own(layout, rank, cp);
                let from = format!("the tokens at its positions, {word}");
                let of = |what| Expected { what, place, from: &from };
                check(&of("the input token"), &text.index_select(1, &at), inputs);
                check(&of("the target token"), &text.index_select(1, &(at + 1)), targets);
            }
        }
    }
}

#[test]
fn every_query_meets_every_key_before_it_once_and_no_other() {
    let rows = 4;
    for (layout, word) in LAYOUTS {
        for ranks in 2..=5 {
            let mut met = BTreeMap::new();
            for (rank, from) in (0..ranks).flat_map(|r| (0..ranks).map(move |f| (r, f))) {
                let place = format!("{word}, the queries of rank {rank} and the block of {from}");
                let (ours, theirs) =
                    (positions(layout, rank, ranks, rows), positions(layout, from, ranks, rows));
                let Some(tile) = tile(layout, rank as usize, from as usize, rows) else { continue };
                let inside = |range: &std::ops::Range<i64>| range.start >= 0 && range.end <= rows;
                assert!(inside(&tile.queries) && inside(&tile.keys), "{place}: {tile:?}");
                for (q, k) in
                    tile.queries.clone().flat_map(|q| tile.keys.clone().map(move |k| (q, k)))
                {
                    let masked = tile.causal && (k - tile.keys.start) > (q - tile.queries.start);
                    if !masked {
                        let (query, key) = (ours[q as usize], theirs[k as usize]);
                        assert!(
                            key <= query,
                            "{place}: the query at position {query} sees the key at {key}, \
                             which comes after it"
                        );
                        *met.entry((query, key)).or_insert(0) += 1;
                    }
                }
            }
            for (query, key) in (0..ranks * rows).flat_map(|q| (0..=q).map(move |k| (q, k))) {
                let times = met.get(&(query, key)).copied().unwrap_or(0);
                assert_eq!(
                    times, 1,
                    "{word} over {ranks} ranks: how often the query at position {query} \
                     meets the key at {key}"
                );
            }
        }
    }
}

// Attention around a ring

const HEADS: [i64; 3] = [4, 2, 2]; // of queries, keys and values
const HEAD_DIM: i64 = 6;

/// Queries, keys and values of two whole sequences; queries and keys times `scale`.
fn qkv(scale: f64) -> [Tensor; 3] {
    let whole = |i: usize| numbers(30 + i as i64, &[2, SEQ, HEADS[i], HEAD_DIM]);
    [whole(0) * scale, whole(1) * scale, whole(2)]
}

fn grad_of_output() -> Tensor {
    numbers(40, &[2, SEQ, HEADS[0], HEAD_DIM])
}

/// Output and gradients of q, k and v, all of one device, by plain products.
fn whole_attention(scale: f64) -> [Tensor; 4] {
    let [q, k, v] = qkv(scale).map(|t| t.set_requires_grad(true));
    let heads_first = |t: &Tensor| t.transpose(1, 2);
    let repeated = |t: &Tensor| heads_first(t).repeat_interleave_self_int(2, 1, None);
    let scores = heads_first(&q).matmul(&repeated(&k).transpose(2, 3)) / (HEAD_DIM as f64).sqrt();
    let future = Tensor::ones([SEQ, SEQ], (Kind::Bool, Device::Cpu)).triu(1);
    let weights = scores.masked_fill(&future, f64::NEG_INFINITY).softmax(-1, Kind::Double);
    let out = heads_first(&weights.matmul(&repeated(&v)));
    (&out * grad_of_output()).sum(Kind::Double).backward();
    [out.detach(), q.grad(), k.grad(), v.grad()]
}

/// What one rank makes of its part: its name, output and gradients, and bytes sent forward and
/// backward.
type Part = (String, [Tensor; 4], [u64; 2]);

fn around_the_ring(layout: CpLayout, word: &'static str, cp: usize, scale: f64) -> Vec<Part> {
    world(ring(cp), move |mesh| {
        let at = own(layout, mesh.rank, cp);
        let part = |t: &Tensor| t.index_select(1, &at);
        let [q, k, v] = qkv(scale).map(|t| part(&t).set_requires_grad(true));
        let out = context_parallel(mesh, word).attention(&q, &k, &v)?;
        let forward = mesh.cp.bytes_sent();
        autograd::backward_with(&out, &part(&grad_of_output()))?;
        let sent = [forward, mesh.cp.bytes_sent() - forward];
        Ok((name(mesh), [out.detach(), q.grad(), k.grad(), v.grad()], sent))
    })
}

/// Only forward passes, whatever the backward pass is like.
fn forward_only(
    layout: CpLayout,
    word: &'static str,
    cp: usize,
    scale: f64,
) -> Vec<(String, Tensor)> {
    world(ring(cp), move |mesh| {
        let at = own(layout, mesh.rank, cp);
        let [q, k, v] = qkv(scale).map(|t| t.index_select(1, &at));
        Ok((name(mesh), context_parallel(mesh, word).attention(&q, &k, &v)?.detach()))
    })
}

#[track_caller]
fn check_part(
    what: &str,
    place: &str,
    layout: CpLayout,
    rank: usize,
    cp: usize,
    whole: &Tensor,
    got: &Tensor,
) {
    let of = Expected { what, place, from: "whole attention, at [sequence, row, head, dimension]" };
    check(&of, &whole.index_select(1, &own(layout, rank, cp)), got);
}

#[test]
fn the_first_of_two_ranks_attends_to_its_own_block_alone() {
    let parts = forward_only(CpLayout::Contiguous, "contiguous", 2, 1.0);
    let [out, ..] = whole_attention(1.0);
    let (place, got) = &parts[0];
    check_part("the output, contiguous,", place, CpLayout::Contiguous, 0, 2, &out, got);
}

#[test]
fn two_blocks_are_merged_into_one_softmax() {
    let parts = forward_only(CpLayout::Contiguous, "contiguous", 2, 1.0);
    let [out, ..] = whole_attention(1.0);
    let (place, got) = &parts[1];
    check_part("the output, contiguous,", place, CpLayout::Contiguous, 1, 2, &out, got);
}

/// Scores of some hundred: one block's sum of exponentials is e^100 times the other's.
#[test]
fn blocks_of_very_different_scores_are_merged_without_overflow() {
    let parts = forward_only(CpLayout::Contiguous, "contiguous", 2, 30.0);
    let [out, ..] = whole_attention(30.0);
    let (place, got) = &parts[1];
    let what = "the output under large scores, contiguous,";
    check_part(what, place, CpLayout::Contiguous, 1, 2, &out, got);
}

#[test]
fn a_ring_of_any_length_attends_as_one_device() {
    let [out, ..] = whole_attention(1.0);
    for (layout, word) in LAYOUTS {
        for cp in [1, 2, 3, 4] {
            for (rank, (place, got)) in forward_only(layout, word, cp, 1.0).iter().enumerate() {
                let what = format!("the output, {word} over {cp} ranks,");
                check_part(&what, place, layout, rank, cp, &out, got);
            }
        }
    }
}

#[test]
fn the_gradients_of_queries_keys_and_values_are_those_of_one_device() {
    let [_, grads @ ..] = whole_attention(1.0);
    for (layout, word) in LAYOUTS {
        for cp in [2, 3, 4] {
            for (rank, (place, got, _)) in around_the_ring(layout, word, cp, 1.0).iter().enumerate()
            {
                for (of, (whole, got)) in
                    ["queries", "keys", "values"].into_iter().zip(grads.iter().zip(&got[1..]))
                {
                    let what = format!("the gradient of the {of}, {word} over {cp} ranks,");
                    check_part(&what, place, layout, rank, cp, whole, got);
                }
            }
        }
    }
}

#[test]
fn blocks_visit_each_rank_once_and_gradients_come_home() {
    for (layout, word) in LAYOUTS {
        for cp in [2, 3, 4] {
            let block = 2 * 2 * HEADS[1] as u64 * (SEQ as u64 / cp as u64) * HEAD_DIM as u64 * 8;
            for (place, _, [forward, backward]) in around_the_ring(layout, word, cp, 1.0) {
                let hops = cp as u64 - 1;
                check_bytes(&format!("{word} over {cp}, forward"), &place, hops * block, forward);
                // The first hop was kept from the forward pass; every gradient makes them all.
                let expected = (2 * hops - 1) * block;
                check_bytes(&format!("{word} over {cp}, backward"), &place, expected, backward);
            }
        }
    }
}

/// Forward at once, and backward after a forward pass that went well.
#[test]
fn an_error_of_the_ring_is_passed_on() {
    let launch = Launch { layout: ring(2), timeout: PATIENCE, ..Launch::default() };
    check_error_is_passed_on("attention, forward", &launch, |mesh| {
        let [q, k, v] = qkv(1.0).map(|t| t.narrow(1, 0, SEQ / 2));
        context_parallel(mesh, "contiguous").attention(&q, &k, &v).map(|_| ())
    });
    let outcome = Arc::new(Mutex::new(None));
    let told = outcome.clone();
    let _ = launch::launch(&launch, move |mesh| {
        let [q, k, v] = qkv(1.0).map(|t| t.narrow(1, 0, SEQ / 2).set_requires_grad(true));
        let out = context_parallel(mesh, "contiguous").attention(&q, &k, &v)?;
        mesh.world.barrier()?;
        anyhow::ensure!(mesh.rank == 0, "this rank leaves");
        let failed = autograd::backward_with(&out, &out.detach()).is_err();
        *told.lock().unwrap() = Some(failed);
        Ok(())
    });
    let failed = *outcome.lock().unwrap();
    assert_eq!(failed, Some(true), "attention, backward: a rank is gone, and the other goes on");
}

// The whole

const BATCH: &str = "--global-batch 4 --micro-batch 2";

fn train(model: Model, cp: usize, layout: &str, updates: usize) -> Vec<Updates> {
    let run = format!("{BATCH} --dp 1 --pp 1 --cp {cp} --cp-layout {layout}");
    let mut start = start::<Config>(5, &model.flags(&run));
    let text = step05::text::open(&mut start).unwrap();
    let config = start.config;
    world_of(&start.launch, move |mesh| {
        let mut trainer = Trainer::new(&config, &text, mesh)?;
        let micro_batches = micro_batches(2, 2, model.vocab);
        Updates::take(name(mesh), updates, || {
            let stats = trainer.update(&micro_batches)?;
            let held = trainer.model.parameters().iter().map(|p| Held {
                name: p.name.clone(),
                weight: p.tensor.shallow_clone(),
                grad: p.tensor.grad(),
                region: p.tp.region(&p.global_shape, 0, 1),
            });
            Ok((stats, held.collect()))
        })
    })
}

/// Runs in every form against one device.
fn in_every_form(updates: usize, test: impl Fn(&Updates, &[Updates])) {
    for tied in [false, true] {
        let model = Model { tied, ..Model::default() };
        let one = one_device(model, BATCH, &micro_batches(2, 2, model.vocab), updates);
        for (cp, layout) in [(1, "zigzag"), (2, "contiguous"), (2, "zigzag"), (4, "zigzag")] {
            test(&one, &train(model, cp, layout, updates));
        }
    }
}

#[test]
fn the_first_loss_is_that_of_one_device() {
    in_every_form(1, check_losses);
}

#[test]
fn the_gradient_norm_is_that_of_one_device() {
    in_every_form(1, check_norms);
}

#[test]
fn every_gradient_is_that_of_one_device() {
    in_every_form(1, check_grads);
}

#[test]
fn every_weight_is_that_of_one_device_after_three_updates() {
    in_every_form(3, check_all);
}
