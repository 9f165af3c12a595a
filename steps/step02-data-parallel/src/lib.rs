//! Step 2: replicas of the model, each with its part of the batch.

pub mod config;
pub mod data_parallel;
pub mod layers;
pub mod model;
pub mod optimizer;
pub mod rotary;
pub mod text;
pub mod train;
