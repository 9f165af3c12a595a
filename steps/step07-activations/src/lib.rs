//! Step 7: fewer activations: sequence parallelism and recomputation.

pub mod activations;
pub mod config;
pub mod context_parallel;
pub mod data_parallel;
pub mod dry_run;
pub mod held_out;
pub mod hugging_face;
pub mod layers;
pub mod long_runs;
pub mod memory;
pub mod model;
pub mod optimizer;
pub mod pipeline_parallel;
pub mod rotary;
pub mod schedule;
pub mod sequence_parallel;
pub mod sharded_checkpoint;
pub mod tensor_parallel;
pub mod text;
pub mod train;
pub mod vocab_parallel;
