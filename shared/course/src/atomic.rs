//! Files that are there whole or not at all.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// Writes `bytes` beside `path`, then renames: whoever reads sees the old text or the new one.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = beside(path, bytes)?;
    // A file that can be read by others stays so.
    if let Ok(old) = fs::metadata(path) {
        new.as_file().set_permissions(old.permissions())?;
    }
    new.persist(path).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}

/// The same, but an existing file is left as it is; says whether the file is new.
pub fn create(path: &Path, bytes: &[u8]) -> Result<bool> {
    match beside(path, bytes)?.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(_) if path.exists() => Ok(false),
        Err(error) => Err(error.error).with_context(|| format!("writing {}", path.display())),
    }
}

fn beside(path: &Path, bytes: &[u8]) -> Result<NamedTempFile> {
    let shown = || format!("writing {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(shown)?;
    let mut builder = tempfile::Builder::new();
    // As `umask` has it for new files, not for the owner alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut new = builder.prefix(".course-").tempfile_in(folder).with_context(shown)?;
    new.write_all(bytes).with_context(shown)?;
    new.as_file().sync_all().with_context(shown)?;
    Ok(new)
}
