//! Files that appear whole or not at all.

use std::path::Path;

/// Writes under another name first, so that whoever opens the file finds all of it. A device or a
/// pipe is written to directly, since renaming would replace it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if is_special(path) {
        return std::fs::write(path, bytes);
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned()); // a link stays one
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, &path))
        .inspect_err(|_| drop(std::fs::remove_file(&partial)))
}

/// Whether something exists there that is neither file nor directory, such as a pipe.
pub fn is_special(path: &Path) -> bool {
    path.exists() && !path.is_file() && !path.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_stays_one_and_a_device_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("real"), "old").unwrap();
        symlink("real", at("link")).unwrap();
        symlink("/dev/null", at("null")).unwrap();
        for name in ["link", "null"] {
            write_whole(&at(name), b"new").unwrap();
            assert!(at(name).is_symlink(), "{name}");
        }
        assert_eq!(std::fs::read_to_string(at("real")).unwrap(), "new");
        assert_eq!(dir.path().read_dir().unwrap().count(), 3, "nothing stays beside them");
    }
}
