//! Step 3: every matrix split over ranks that work on the same tokens.

pub mod config;
pub mod data_parallel;
pub mod layers;
pub mod model;
pub mod optimizer;
pub mod rotary;
pub mod tensor_parallel;
pub mod text;
pub mod train;
pub mod vocab_parallel;
