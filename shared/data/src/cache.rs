//! The tokens of a long text are kept in a file, for the other processes of a run and for later
//! runs: one process encodes the text, and all map the file.

use crate::tokenizer::HuggingFace;
use crate::tokens::Tokens;
use anyhow::{Context, Result};
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, ErrorKind, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of text from which on its tokens are worth a file: a second's work.
const LONG: usize = 1 << 20;

/// What makes tokens of a text. A new version may make others.
pub(crate) const ENCODER: &str = "tokenizers 0.23.2";

/// A file begins with [`MAGIC`], a key, the highest token as a u32, and zeros up to so many bytes.
const HEADER: usize = 64;
const MAGIC: &[u8; 16] = b"ferrotron tokens";

/// How often a long wait is spoken of.
const NEWS: Duration = Duration::from_secs(10);

/// What to do with the tokens of a long text.
#[derive(Clone, Copy)]
pub struct TokenCache<'a> {
    /// Where they are kept; `None`: beside the text, or in memory where nothing can
    /// be written there.
    pub dir: Option<&'a Path>,
    /// Tells the user, in one line, what takes long.
    pub say: &'a dyn Fn(&str),
}

/// The tokens of `text`, which is that of the file `path`.
///
/// # Errors
/// If the tokenizer fails on this text, or the directory that was asked for cannot be written.
pub(crate) fn tokens(
    path: &Path,
    text: &str,
    tokenizer: &HuggingFace,
    cache: TokenCache,
) -> Result<Tokens> {
    let encoding = Encoding { text, tokenizer, shown: path.display().to_string(), say: cache.say };
    if text.len() < LONG {
        return encoding.in_memory();
    }
    let key = encoding.key();
    let hex: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{}.{hex}.tokens", path.file_name().unwrap_or_default().display());
    match cache.dir {
        Some(dir) => {
            let kept = fs::create_dir_all(dir).map_err(Into::into);
            kept.and_then(|()| encoding.in_file(&dir.join(name), &key)).with_context(|| {
                format!("its tokens cannot be kept in data-cache {}", dir.display())
            })
        }
        None => encoding.in_file(&path.with_file_name(name), &key).or_else(|error| {
            (cache.say)(&format!(
                "the tokens of {} stay in memory, for beside it they cannot be kept ({error:#}): \
                 --data-cache names another directory",
                encoding.shown
            ));
            encoding.in_memory()
        }),
    }
}

struct Encoding<'a> {
    text: &'a str,
    tokenizer: &'a HuggingFace,
    /// The file's path.
    shown: String,
    say: &'a dyn Fn(&str),
}

impl Encoding<'_> {
    /// Of this text, as this tokenizer encodes it.
    fn key(&self) -> [u8; 32] {
        let parts = [&Sha256::digest(self.text)[..], &self.tokenizer.digest, ENCODER.as_bytes()];
        Sha256::digest(parts.concat()).into()
    }

    fn in_memory(&self) -> Result<Tokens> {
        let mut all = Vec::new();
        self.encode(|some| {
            all.extend(some);
            Ok(())
        })?;
        Ok(Tokens::Memory(all))
    }

    fn encode(&self, mut take: impl FnMut(&[u32]) -> Result<()>) -> Result<()> {
        let mut last = Instant::now();
        self.tokenizer.encode_to(self.text, |some, done| {
            if last.elapsed() > NEWS {
                last = Instant::now();
                (self.say)(&format!("encoding {}: {}%", self.shown, 100 * done / self.text.len()));
            }
            take(some)
        })
    }

    /// The tokens that `path` holds, once it holds them.
    fn in_file(&self, path: &Path, key: &[u8; 32]) -> Result<Tokens> {
        let partial = path.with_extension("partial");
        loop {
            if let Some(tokens) = map(path, key)? {
                return Ok(tokens);
            }
            // Whoever has this file locked is the one that writes. A process that is killed loses
            // its lock, and the next begins anew.
            let draft = File::options().write(true).create(true).truncate(false).open(&partial);
            let draft = draft.with_context(|| format!("cannot make {}", partial.display()))?;
            match draft.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    (self.say)(&format!("waiting for another process to encode {}", self.shown));
                    draft.lock()?;
                }
                locked => locked?,
            }
            let ours = is_at(&draft, &partial);
            if let Some(tokens) = map(path, key)? {
                if ours {
                    let _ = fs::remove_file(&partial); // it is empty: another was done before
                }
                return Ok(tokens);
            }
            if !ours {
                continue; // another writer has renamed or removed it meanwhile
            }
            let written = self.write(&draft, key).and_then(|()| Ok(fs::rename(&partial, path)?));
            if written.is_err() {
                let _ = fs::remove_file(&partial);
            }
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
    }

    fn write(&self, draft: &File, key: &[u8; 32]) -> Result<()> {
        let megabytes = self.text.len() as f64 / 1e6;
        (self.say)(&format!(
            "encoding {}, {megabytes:.1} MB of text, once for all later runs",
            self.shown
        ));
        draft.set_len(0)?;
        let (mut file, mut highest) = (BufWriter::new(draft), 0);
        file.write_all(&[0; HEADER])?;
        self.encode(|some| {
            highest = some.iter().copied().fold(highest, u32::max);
            some.iter().try_for_each(|id| Ok(file.write_all(&id.to_le_bytes())?))
        })?;
        file.rewind()?;
        file.write_all(&[&MAGIC[..], key, &highest.to_le_bytes()].concat())?;
        file.flush()?;
        Ok(draft.sync_all()?)
    }
}

/// The tokens of `path`, if it is whole and has this key.
fn map(path: &Path, key: &[u8; 32]) -> Result<Option<Tokens>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| format!("cannot read {}", path.display()))?,
    };
    if file.metadata()?.len() < HEADER as u64 {
        return Ok(None);
    }
    // SAFETY: read-only and private, and files of this name are replaced, never changed.
    let bytes = unsafe { Mmap::map(&file) }?;
    let (magic, rest) = bytes[..HEADER].split_at(MAGIC.len());
    let (of, rest) = rest.split_at(key.len());
    if magic != MAGIC || of != key || bytes.len() % 4 != 0 {
        return Ok(None);
    }
    let highest = rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    Ok(Some(Tokens::Mapped { bytes, start: HEADER, width: 4, highest }))
}

/// Whether the open file is still the one of that path.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests;
