//! Step 5: sequences split over ranks that pass keys and values around.

pub mod config;
pub mod context_parallel;
pub mod data_parallel;
pub mod layers;
pub mod model;
pub mod optimizer;
pub mod pipeline_parallel;
pub mod rotary;
pub mod schedule;
pub mod tensor_parallel;
pub mod text;
pub mod train;
pub mod vocab_parallel;
