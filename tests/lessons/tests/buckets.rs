//! Step 2, to build: buckets in the order in which gradients become ready.

include!(concat!(env!("OUT_DIR"), "/buckets.rs"));

use lessons::exercises::buckets;

#[test]
fn every_parameter_once_and_in_order() {
    buckets::every_parameter_once_and_in_order(solution::assign);
}

#[test]
fn buckets_are_as_full_as_they_may_be() {
    buckets::buckets_are_as_full_as_they_may_be(solution::assign);
}

#[test]
fn a_large_parameter_has_its_own_bucket() {
    buckets::a_large_parameter_has_its_own_bucket(solution::assign);
}

#[test]
fn what_cannot_be_is_refused() {
    buckets::what_cannot_be_is_refused(solution::assign);
}
