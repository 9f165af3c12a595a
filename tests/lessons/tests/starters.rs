//! Every building exercise can be solved, and is not solved yet: each of its checks is red on the starter
//! and green on the reference.

use lessons::exercises::sequence::Operators;
use lessons::exercises::{buckets, interleaved, sequence};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[path = "../../../book/lessons/buckets/reference.rs"]
mod buckets_reference;
#[path = "../../../book/lessons/buckets/starter.rs"]
mod buckets_starter;
#[path = "../../../book/lessons/interleaved/reference.rs"]
mod interleaved_reference;
#[path = "../../../book/lessons/interleaved/starter.rs"]
mod interleaved_starter;
#[path = "../../../book/lessons/sequence/reference.rs"]
mod sequence_reference;
#[path = "../../../book/lessons/sequence/starter.rs"]
mod sequence_starter;

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
fn sequence_is_red_then_green() {
    let starter = Operators {
        gather: sequence_starter::gather,
        reduce_scatter: sequence_starter::reduce_scatter,
    };
    let reference = Operators {
        gather: sequence_reference::gather,
        reduce_scatter: sequence_reference::reduce_scatter,
    };
    let checks = checks!(sequence: f_gathers_the_tokens_of_all_ranks the_gradient_of_f_is_summed_and_scattered g_leaves_each_rank_the_sum_of_its_tokens the_gradient_of_g_is_that_of_all_tokens a_layer_between_them_is_that_of_one_device what_cannot_be_is_refused);
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
