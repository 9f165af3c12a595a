//! Step 1: a Llama and its training loop on one device.

pub mod config;
pub mod layers;
pub mod model;
pub mod optimizer;
pub mod rotary;
pub mod text;
pub mod train;
