//! What Git leaves where a large file was not fetched.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How a pointer of Git LFS begins: a few lines of text with the file's digest and size.
const START: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Refuses a pointer of Git LFS in the place of a file. (It would be read as text, or as something
/// that was cut off.)
///
/// # Errors
/// If `path` is one, or cannot be read.
pub fn refuse_pointer(path: &Path) -> Result<()> {
    let shown = path.display();
    let mut start = vec![];
    File::open(path)
        .and_then(|file| file.take(START.len() as u64).read_to_end(&mut start))
        .with_context(|| format!("cannot read {shown}"))?;
    ensure!(
        start != START,
        "{shown} is a pointer of Git LFS, and the file itself is not here: fetch it with git lfs pull"
    );
    Ok(())
}
