//! Every building exercise can be solved, and is not solved yet: each of its checks is red on the starter
//! and green on the reference.

use lessons::exercises::likeliest::Functions;
use lessons::exercises::{buckets, interleaved, likeliest};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[path = "../../../book/lessons/buckets/reference.rs"]
mod buckets_reference;
#[path = "../../../book/lessons/buckets/starter.rs"]
mod buckets_starter;
#[path = "../../../book/lessons/interleaved/reference.rs"]
mod interleaved_reference;
#[path = "../../../book/lessons/interleaved/starter.rs"]
mod interleaved_starter;
#[path = "../../../book/lessons/likeliest/reference.rs"]
mod likeliest_reference;
#[path = "../../../book/lessons/likeliest/starter.rs"]
mod likeliest_starter;

/// A check, by its name.
type Check<T> = (&'static str, fn(T));

fn red_then_green<T: Copy>(checks: &[Check<T>], starter: T, reference: T) {
    for (name, check) in checks {
        check(reference);
        let red = catch_unwind(AssertUnwindSafe(|| check(starter))).is_err();
        assert!(red, "{name} is green before anything is written");
    }
}

macro_rules! checks {
    ($exercise:ident: $($name:ident)*) => { &[$((stringify!($name), $exercise::$name as fn(_))),*] };
}

#[test]
fn buckets_are_red_then_green() {
    let (starter, reference) =
        (buckets_starter::assign as buckets::Assign, buckets_reference::assign as buckets::Assign);
    let checks = checks!(buckets: every_parameter_once_and_in_order buckets_are_as_full_as_they_may_be a_large_parameter_has_its_own_bucket what_cannot_be_is_refused);
    red_then_green(checks, starter, reference);
}

#[test]
fn likeliest_is_red_then_green() {
    let starter =
        Functions { likeliest: likeliest_starter::likeliest, top_k: likeliest_starter::top_k };
    let reference =
        Functions { likeliest: likeliest_reference::likeliest, top_k: likeliest_reference::top_k };
    let checks = checks!(likeliest: the_likeliest_word_is_that_of_the_whole_vocabulary of_equal_words_the_one_with_the_smaller_id_wins two_numbers_a_token_are_sent the_k_likeliest_are_those_of_the_whole_vocabulary of_equal_words_the_smaller_ids_come_first k_candidates_of_each_rank_are_sent what_cannot_be_is_refused);
    red_then_green(checks, starter, reference);
}

#[test]
fn interleaved_is_red_then_green() {
    let (starter, reference) = (
        interleaved_starter::passes as interleaved::Passes,
        interleaved_reference::passes as interleaved::Passes,
    );
    let checks = checks!(interleaved: every_pass_is_made_once gradients_of_a_chunk_come_in_order no_rank_waits_for_ever the_bubble_is_that_of_short_stages a_rank_keeps_no_more_than_it_must micro_batches_that_do_not_divide_are_refused);
    red_then_green(checks, starter, reference);
}
