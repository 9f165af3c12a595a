//! What a model reads: the built-in tales, files of text or tokens, and batches of them.

mod batches;
mod cache;
pub mod corpus;
mod cuts;
mod dataset;
mod pieces;
mod random;
mod sampling;
mod tokenizer;
mod tokens;

pub use batches::{BatchOptions, Batches, MicroBatch};
pub use cache::TokenCache;
pub use dataset::Dataset;
pub use random::Random;
pub use sampling::Sampling;
pub use tokenizer::{HuggingFace, Tokenizer};
pub use tokens::token_width;
