//! Step 3, to build: the likeliest words without the logits.

include!(concat!(env!("OUT_DIR"), "/likeliest.rs"));

use lessons::exercises::likeliest::{self, Functions};

fn solved() -> Functions {
    Functions { likeliest: solution::likeliest, top_k: solution::top_k }
}

#[test]
fn the_likeliest_word_is_that_of_the_whole_vocabulary() {
    likeliest::the_likeliest_word_is_that_of_the_whole_vocabulary(solved());
}

#[test]
fn of_equal_words_the_one_with_the_smaller_id_wins() {
    likeliest::of_equal_words_the_one_with_the_smaller_id_wins(solved());
}

#[test]
fn two_numbers_a_token_are_sent() {
    likeliest::two_numbers_a_token_are_sent(solved());
}

#[test]
fn the_k_likeliest_are_those_of_the_whole_vocabulary() {
    likeliest::the_k_likeliest_are_those_of_the_whole_vocabulary(solved());
}

#[test]
fn of_equal_words_the_smaller_ids_come_first() {
    likeliest::of_equal_words_the_smaller_ids_come_first(solved());
}

#[test]
fn k_candidates_of_each_rank_are_sent() {
    likeliest::k_candidates_of_each_rank_are_sent(solved());
}

#[test]
fn what_cannot_be_is_refused() {
    likeliest::what_cannot_be_is_refused(solved());
}
