//! `record STEP DIR FLAGS…`: trains a step under these flags, by any launcher, and has every rank
//! write what it computed to DIR.

use anyhow::{Context, Result};
use std::path::PathBuf;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().context("usage: record STEP DIR FLAGS…");
    let (step, dir): (u8, PathBuf) = (next()?.parse()?, next()?.into());
    let flags: Vec<String> = args.collect();
    for record in parity::record(step, &flags)? {
        record.write(&dir)?;
    }
    Ok(())
}
