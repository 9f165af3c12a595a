//! What was handed in: a folder, an archive or one file, read into memory. Nothing of it is unpacked or followed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The texts that were handed in.
pub struct Submission {
    /// Its file's name without endings: who handed it in.
    pub name: String,
    pub content: Content,
}

pub enum Content {
    /// Paths as they stand in the folder or the archive.
    Files(BTreeMap<PathBuf, Vec<u8>>),
    Patch(PathBuf),
}

/// Nothing that a lesson asks for is larger.
const LARGEST: u64 = 1 << 20;
/// Folders that no one writes by hand.
const SKIPPED: [&str; 6] = [".git", "target", ".libtorch", ".venv", ".course", "__MACOSX"];
const ENDINGS: [&str; 7] = [".patch", ".diff", ".tar.gz", ".tgz", ".tar", ".zip", ".rs"];

impl Submission {
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let whole = path.canonicalize();
        let whole = whole.with_context(|| format!("SUBMISSION={shown} cannot be read"))?;
        let file = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if whole.is_dir() {
            let mut files = BTreeMap::new();
            folder(&whole, Path::new(""), &mut files)?;
            return Ok(Self { name: file, content: Content::Files(files) });
        }
        let Some(ending) = ENDINGS.iter().find(|ending| file.ends_with(**ending)) else {
            bail!("SUBMISSION={shown}: neither a folder nor one of {}", ENDINGS.join(", "));
        };
        let name = file.trim_end_matches(ending).to_owned();
        let content = match *ending {
            ".patch" | ".diff" => Content::Patch(whole),
            ending => {
                let bytes = fs::read(&whole).with_context(|| format!("SUBMISSION={shown}"))?;
                let files = match ending {
                    ".zip" => unzipped(bytes),
                    ".tar" => untarred(Cursor::new(bytes)),
                    ".rs" => Ok(BTreeMap::from([(PathBuf::from(&file), bytes)])),
                    _ => untarred(flate2::read::GzDecoder::new(Cursor::new(bytes))),
                };
                Content::Files(files.with_context(|| format!("SUBMISSION={shown}"))?)
            }
        };
        Ok(Self { name, content })
    }
}

fn folder(root: &Path, below: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let here = root.join(below);
    for entry in fs::read_dir(&here).with_context(|| format!("reading {}", here.display()))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let kind = entry.file_type()?; // a link is neither of both
        if kind.is_dir() && !is_skipped(&path) {
            folder(root, &path, files)?;
        } else if kind.is_file() && entry.metadata()?.len() <= LARGEST {
            files.insert(path, fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn untarred(from: impl Read) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(from).entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        if entry.header().entry_type().is_file() {
            keep(path, entry, &mut files)?;
        }
    }
    Ok(files)
}

fn unzipped(bytes: Vec<u8>) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes))?;
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        if let Some(path) = entry.enclosed_name().filter(|_| entry.is_file()) {
            keep(path, entry, &mut files)?;
        }
    }
    Ok(files)
}

fn keep(path: PathBuf, from: impl Read, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    if is_skipped(&path) {
        return Ok(());
    }
    let mut bytes = Vec::new();
    // Counted as it is read: what an archive says of its sizes need not be so.
    from.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 <= LARGEST {
        let path = path.components().filter(|it| matches!(it, Component::Normal(_)));
        files.insert(path.collect(), bytes);
    }
    Ok(())
}

fn is_skipped(path: &Path) -> bool {
    path.components().any(|it| SKIPPED.iter().any(|skipped| it.as_os_str() == *skipped))
}

/// The file that was handed in for `wanted`: at its path, or at that path below a folder.
pub fn pick<'a>(
    files: &'a BTreeMap<PathBuf, Vec<u8>>,
    wanted: &Path,
    is_only: bool,
) -> Result<Option<(&'a Path, &'a [u8])>> {
    // One file by itself needs no folders around it.
    let alone = is_only && files.len() == 1;
    let fits = |path: &Path| path.ends_with(wanted) || (alone && wanted.ends_with(path));
    let mut found: Vec<_> = files.iter().filter(|(path, _)| fits(path)).collect();
    found.sort_by_key(|(path, _)| path.components().count());
    if let [first, second, ..] = &found[..]
        && first.0.components().count() == second.0.components().count()
    {
        bail!(
            "{} was handed in twice: {}, {}",
            wanted.display(),
            first.0.display(),
            second.0.display()
        );
    }
    Ok(found.first().map(|(path, bytes)| (path.as_path(), bytes.as_slice())))
}
