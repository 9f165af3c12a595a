//! Step 4, to build: the interleaved schedule.

include!(concat!(env!("OUT_DIR"), "/interleaved.rs"));

use lessons::exercises::interleaved;

#[test]
fn every_pass_is_made_once() {
    interleaved::every_pass_is_made_once(solution::passes);
}

#[test]
fn gradients_of_a_chunk_come_in_order() {
    interleaved::gradients_of_a_chunk_come_in_order(solution::passes);
}

#[test]
fn no_rank_waits_for_ever() {
    interleaved::no_rank_waits_for_ever(solution::passes);
}

#[test]
fn the_bubble_is_that_of_short_stages() {
    interleaved::the_bubble_is_that_of_short_stages(solution::passes);
}

#[test]
fn a_rank_keeps_no_more_than_it_must() {
    interleaved::a_rank_keeps_no_more_than_it_must(solution::passes);
}

#[test]
fn micro_batches_that_do_not_divide_are_refused() {
    interleaved::micro_batches_that_do_not_divide_are_refused(solution::passes);
}
