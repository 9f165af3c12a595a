//! One run at a time saves to a directory.

use anyhow::{Context, Result, bail};
use std::fs::{self, File, TryLockError};
use std::path::Path;

/// Locks `dir`, which it makes if there is none, until the file is dropped or the process ends. The
/// empty file stays: were it removed, two runs could lock two files of that name.
pub(super) fn take(dir: &Path) -> Result<File> {
    let path = dir.join(".lock");
    let file = fs::create_dir_all(dir).and_then(|()| File::create(&path));
    let file = file.with_context(|| format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!("another run is saving to {}: give each its own --save", dir.display())
        }
        // Some file systems have no locks, and most runs have their directory to themselves.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}
