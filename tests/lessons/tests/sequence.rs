//! Step 3, to build: f and g of sequence parallelism.

include!(concat!(env!("OUT_DIR"), "/sequence.rs"));

use lessons::exercises::sequence::{self, Operators};

fn solved() -> Operators {
    Operators { gather: solution::gather, reduce_scatter: solution::reduce_scatter }
}

#[test]
fn f_gathers_the_tokens_of_all_ranks() {
    sequence::f_gathers_the_tokens_of_all_ranks(solved());
}

#[test]
fn the_gradient_of_f_is_summed_and_scattered() {
    sequence::the_gradient_of_f_is_summed_and_scattered(solved());
}

#[test]
fn g_leaves_each_rank_the_sum_of_its_tokens() {
    sequence::g_leaves_each_rank_the_sum_of_its_tokens(solved());
}

#[test]
fn the_gradient_of_g_is_that_of_all_tokens() {
    sequence::the_gradient_of_g_is_that_of_all_tokens(solved());
}

#[test]
fn a_layer_between_them_is_that_of_one_device() {
    sequence::a_layer_between_them_is_that_of_one_device(solved());
}

#[test]
fn what_cannot_be_is_refused() {
    sequence::what_cannot_be_is_refused(solved());
}
