//! What a solution of a building exercise must do. Each check panics with what is wrong: the tests of
//! a lesson run it on the learner's solution, and another test on starter and reference.

pub mod buckets;
pub mod interleaved;
pub mod likeliest;
