//! Prints built-in tales as JSON lines, one a line: `cargo run -p data --example tales -- COUNT SEED`.
//! Seed 0 has those that every step trains on, 1 the held-out ones.

use anyhow::{Context, Result};
use std::io::{BufWriter, Write};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number = || args.next().and_then(|arg| arg.parse::<u64>().ok());
    let about = "two numbers are needed: how many tales, and a seed";
    let (count, seed) = (number().context(about)?, number().context(about)?);
    let mut out = BufWriter::new(std::io::stdout().lock());
    for tale in data::corpus::tales(seed).take(usize::try_from(count)?) {
        writeln!(out, "{}", serde_json::json!({ "text": tale }))?;
    }
    Ok(out.flush()?)
}
