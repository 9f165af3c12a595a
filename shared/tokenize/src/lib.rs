//! Files of text become one file of tokens, which runs then map: in parallel, and in memory that
//! does not grow with them.
//!
//! 1. `documents`: which kind of file this is, and what stands in it.
//! 2. `text`, `lines`, `columns`: documents of plain text, of JSON lines and of Parquet, a piece
//!    at a time.
//! 3. `workers`: pieces go to threads, and their tokens come back in order.
//! 4. `output`: the file of tokens, there whole or not at all.
//! 5. [`Tokenize`]: all of it.

#![warn(missing_docs)]

mod columns;
mod documents;
mod lines;
mod output;
mod run;
mod text;
mod workers;

pub use run::{Done, Refused, Tokenize};
