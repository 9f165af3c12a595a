//! Where weights come from: a Hugging Face directory, or a seed.

mod config;
pub use config::{LlamaConfig, RopeScaling};
