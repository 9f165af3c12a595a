//! The likeliest words of a vocabulary that tp ranks share: two small collectives, and no gather of
//! the logits.

use crate::check::{Expected, check_bits, check_bytes};
use crate::model::numbers;
use crate::worlds::{PATIENCE, check_error_is_passed_on, place, world};
use anyhow::Result;
use checkpoint::shard_range;
use comm::{Group, Layout, Mesh, all_reduce_bytes};
use launch::Launch;
use std::sync::{Arc, Mutex, PoisonError};
use tch::{Device, Kind, Tensor};

/// Ids and logits.
pub type Words = (Tensor, Tensor);

/// The two functions to be written.
#[derive(Clone, Copy)]
pub struct Functions {
    /// `[.., vocab/tp]` and the id of its first word to the likeliest word and its logit, `[..]`.
    pub likeliest: fn(&Group, &Tensor, i64) -> Result<Words>,
    /// The same for the k likeliest, `[.., k]`.
    pub top_k: fn(&Group, &Tensor, i64, i64) -> Result<Words>,
}

/// No even number of ranks divides it.
const WORDS: i64 = 259;

fn ranks(tp: usize) -> Layout {
    Layout { tp, ..Layout::default() }
}

/// Logits of one token, or of ten; all below zero, and no two of a token are equal.
fn logits(shape: &[i64]) -> Tensor {
    let shape = [shape, &[WORDS]].concat();
    numbers(3, &shape) - 10.0
}

/// Logits of ten tokens among which many are equal: whole numbers from −3 to 0.
fn with_ties() -> Tensor {
    (numbers(3, &[2, 5, WORDS]) * 2.0 - 1.5).round()
}

/// The words of a rank, and the id of the first.
fn own(all: &Tensor, rank: usize, tp: usize) -> (Tensor, i64) {
    let ids = shard_range(WORDS, rank, tp);
    (all.narrow(-1, ids.start, ids.end - ids.start).contiguous(), ids.start)
}

/// The k likeliest of the whole vocabulary, of equal ones the smaller ids first.
fn expected(all: &Tensor, k: i64) -> Words {
    let (logits, ids) = all.sort_stable(true, -1, true);
    (ids.narrow(-1, 0, k), logits.narrow(-1, 0, k))
}

fn name(mesh: &Mesh) -> String {
    place(mesh.layout, mesh.coords)
}

/// What a function makes of `all` on one, two and four ranks, against the whole vocabulary's.
fn compare(
    what: &str,
    all: fn() -> Tensor,
    expected: &Words,
    function: impl Fn(&Group, &Tensor, i64) -> Result<Words> + Clone + Send + Sync + 'static,
) {
    for tp in [1, 2, 4] {
        let function = function.clone();
        let outcomes = world(ranks(tp), move |mesh| {
            let (mine, first) = own(&all(), mesh.rank, tp);
            let (ids, logits) = function(&mesh.tp, &mine, first)?;
            Ok((name(mesh), ids, logits))
        });
        for (place, ids, logits) in &outcomes {
            let from = "the whole vocabulary";
            let (what_ids, what_logits) =
                (format!("the id of {what}"), format!("the logit of {what}"));
            assert_eq!(ids.kind(), Kind::Int64, "the dtype of {what_ids} on {place}");
            check_bits(&Expected { what: &what_logits, place, from }, &expected.1, logits);
            check_bits(&Expected { what: &what_ids, place, from }, &expected.0, ids);
        }
    }
}

/// The likeliest, as tensors without the dimension of k.
fn first_of(all: &Tensor) -> Words {
    let (ids, logits) = expected(all, 1);
    (ids.squeeze_dim(-1), logits.squeeze_dim(-1))
}

/// Of one token, and of several.
pub fn the_likeliest_word_is_that_of_the_whole_vocabulary(functions: Functions) {
    let what = "the likeliest word";
    compare(what, || logits(&[]), &first_of(&logits(&[])), functions.likeliest);
    compare(what, || logits(&[2, 5]), &first_of(&logits(&[2, 5])), functions.likeliest);
}

/// Within a rank, and on two.
pub fn of_equal_words_the_one_with_the_smaller_id_wins(functions: Functions) {
    let what = "the first of equally likely words";
    compare(what, with_ties, &first_of(&with_ties()), functions.likeliest);
    // On the first rank none has the highest logit.
    let late =
        || with_ties().slice_scatter(&Tensor::full([2, 5, 200], -9.0, DOUBLE), -1, 0, 200, 1);
    compare(what, late, &first_of(&late()), functions.likeliest);
}

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

/// A logit and an id.
pub fn two_numbers_a_token_are_sent(functions: Functions) {
    for tp in [1, 2, 4] {
        let outcomes = world(ranks(tp), move |mesh| {
            let (mine, first) = own(&logits(&[2, 5]), mesh.rank, tp);
            let _ = (functions.likeliest)(&mesh.tp, &mine, first)?;
            Ok((name(mesh), mesh.tp.bytes_sent()))
        });
        for (rank, (place, sent)) in outcomes.iter().enumerate() {
            let expected = 2 * all_reduce_bytes(10, 8, rank, tp);
            check_bytes("the likeliest words of 10 tokens", place, expected, *sent);
        }
    }
}

/// One, some, and more than a rank has.
pub fn the_k_likeliest_are_those_of_the_whole_vocabulary(functions: Functions) {
    for k in [1, 5, 100] {
        let what = format!("one of the {k} likeliest words");
        let top_k =
            move |group: &Group, mine: &Tensor, first| (functions.top_k)(group, mine, first, k);
        compare(&what, || logits(&[]), &expected(&logits(&[]), k), top_k);
        compare(&what, || logits(&[2, 5]), &expected(&logits(&[2, 5]), k), top_k);
    }
}

/// The order of all words, where many are equal.
pub fn of_equal_words_the_smaller_ids_come_first(functions: Functions) {
    for k in [5, 100] {
        let what = format!("one of the {k} likeliest words, many of them equal,");
        let top_k =
            move |group: &Group, mine: &Tensor, first| (functions.top_k)(group, mine, first, k);
        compare(&what, with_ties, &expected(&with_ties(), k), top_k);
    }
}

/// Ids and logits of k words, to each of the others.
pub fn k_candidates_of_each_rank_are_sent(functions: Functions) {
    for (tp, k) in [(1, 5), (2, 5), (4, 5), (4, 100)] {
        let outcomes = world(ranks(tp), move |mesh| {
            let (mine, first) = own(&logits(&[2, 5]), mesh.rank, tp);
            let _ = (functions.top_k)(&mesh.tp, &mine, first, k)?;
            Ok((name(mesh), mesh.tp.bytes_sent()))
        });
        for (place, sent) in &outcomes {
            let expected = (tp as u64 - 1) * 10 * k as u64 * (8 + 8);
            check_bytes(&format!("the {k} likeliest words of 10 tokens"), place, expected, *sent);
        }
    }
}

/// More words than there are, and a group that fails.
pub fn what_cannot_be_is_refused(functions: Functions) {
    let two = Launch { layout: ranks(2), timeout: PATIENCE, ..Launch::default() };
    let told: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let seen = told.clone();
    let _ = launch::launch(&two, move |mesh| {
        let (mine, first) = own(&logits(&[2, 5]), mesh.rank, 2);
        let refused = (functions.top_k)(&mesh.tp, &mine, first, WORDS + 1).err();
        let sentence = refused.map(|error| format!("{error:#}"));
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(sentence);
        Ok(())
    });
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    assert_eq!(told.len(), 2, "`top_k` panics where 260 of 259 words are asked for");
    for sentence in told {
        let sentence =
            sentence.expect("260 of 259 words are asked for, and `top_k` does not say so");
        let names = sentence.contains("260") && sentence.contains("259");
        assert!(names, "the sentence must name the 260 and the 259 words: {sentence}");
    }
    check_error_is_passed_on("likeliest", &two, move |mesh| {
        (functions.likeliest)(&mesh.tp, &logits(&[2, 5]), 0).map(|_| ())
    });
    check_error_is_passed_on("top_k", &two, move |mesh| {
        (functions.top_k)(&mesh.tp, &logits(&[2, 5]), 0, 5).map(|_| ())
    });
}
