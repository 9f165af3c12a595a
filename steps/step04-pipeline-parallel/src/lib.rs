//! Step 4: layers split into stages that hand activations on.

pub mod config;
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
