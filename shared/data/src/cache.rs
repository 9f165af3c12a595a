//! The tokens of a long text are kept in a file, for the other processes of a run and for later
//! runs: one process reads and encodes the text, and all map the file.

use crate::tokenizer::HuggingFace;
use crate::tokens::{Tokens, as_text};
use anyhow::{Context, Result};
use memmap2::Mmap;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, ErrorKind, Seek, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Bytes of text from which on its tokens are worth a file: a second's work.
const LONG: usize = 1 << 20;

/// What makes tokens of a text. A new version may make others.
pub(crate) const ENCODER: &str = "tokenizers 0.23.2";

/// A file begins with [`MAGIC`], a key of the text at a glance, the digest of all of it, when it
/// was last changed, the highest token as a u32, and zeros up to so many bytes.
const HEADER: usize = 128;
const MAGIC: &[u8; 16] = b"ferrotron tokens";
const DIGEST: Range<usize> = 48..80;
const CHANGED: Range<usize> = 80..88;
const HIGHEST: Range<usize> = 88..92;

/// A glance at a text sees so many pieces of so many bytes, from the first to the last.
const GLANCE: (usize, usize) = (64, 1024);

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

/// The tokens of the text that `bytes`, those of the file `path`, must be. Of a long text whose
/// tokens are kept, only pieces are read.
///
/// # Errors
/// If it is no text, the tokenizer fails on it, or the directory that was asked for cannot be
/// written.
pub(crate) fn tokens(
    path: &Path,
    bytes: &[u8],
    tokenizer: &HuggingFace,
    cache: TokenCache,
) -> Result<Tokens> {
    let encoding = Encoding { bytes, tokenizer, path, say: cache.say };
    if bytes.len() < LONG {
        return encoding.in_memory();
    }
    let key = encoding.key();
    let hex: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{}.{hex}.tokens", path.file_name().unwrap_or_default().display());
    let kept = match cache.dir {
        Some(dir) => fs::create_dir_all(dir)
            .map_err(Into::into)
            .and_then(|()| encoding.in_file(&dir.join(name), &key)),
        None => encoding.in_file(&path.with_file_name(name), &key),
    };
    kept.or_else(|error| {
        as_text(bytes)?; // else that is what there is to say
        match cache.dir {
            Some(dir) => Err(error.context(format!(
                "its tokens cannot be kept in data-cache {}",
                dir.display()
            ))),
            None => {
            (cache.say)(&format!(
                "the tokens of {} stay in memory, for beside it they cannot be kept ({error:#}): \
                 --data-cache names another directory",
                path.display()
            ));
            encoding.in_memory()
            }
        }
    })
}

struct Encoding<'a> {
    bytes: &'a [u8],
    tokenizer: &'a HuggingFace,
    path: &'a Path,
    say: &'a dyn Fn(&str),
}

impl Encoding<'_> {
    /// Of a text of this length and with these pieces, as this tokenizer encodes it: two texts of
    /// one name that lie in one cache have their own files.
    fn key(&self) -> [u8; 32] {
        let (pieces, size) = GLANCE;
        let last = self.bytes.len() - size; // it is long
        let mut sum = Sha256::new();
        for start in (0..pieces).map(|i| i * last / (pieces - 1)) {
            sum.update(&self.bytes[start..start + size]);
        }
        sum.update(self.bytes.len().to_le_bytes());
        sum.update(self.tokenizer.digest);
        sum.update(ENCODER);
        sum.finalize().into()
    }

    /// When the text was last changed, in nanoseconds.
    fn changed(&self) -> Result<[u8; 8]> {
        let about = fs::metadata(self.path).context("cannot be read")?;
        let since = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok((since.as_nanos() as u64).to_le_bytes())
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
        self.tokenizer.encode_to(as_text(self.bytes)?, |some, done| {
            if last.elapsed() > NEWS {
                last = Instant::now();
                let percent = 100 * done / self.bytes.len();
                (self.say)(&format!("encoding {}: {percent}%", self.path.display()));
            }
            take(some)
        })
    }

    /// The tokens that `path` holds, once it holds them.
    fn in_file(&self, path: &Path, key: &[u8; 32]) -> Result<Tokens> {
        let (partial, changed) = (path.with_extension("partial"), self.changed()?);
        let kept = || map(path, key, |header| header[CHANGED] == changed);
        loop {
            if let Some(tokens) = kept()? {
                return Ok(tokens);
            }
            // Whoever has this file locked is the one that writes. A process that is killed loses
            // its lock, and the next begins anew.
            let draft = File::options().write(true).create(true).truncate(false).open(&partial);
            let draft = draft.with_context(|| format!("cannot make {}", partial.display()))?;
            match draft.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    let shown = self.path.display();
                    (self.say)(&format!("waiting for another process to encode {shown}"));
                    draft.lock()?;
                }
                locked => locked?,
            }
            let ours = is_at(&draft, &partial);
            if let Some(tokens) = kept()? {
                if ours {
                    let _ = fs::remove_file(&partial); // it is empty: another was done before
                }
                return Ok(tokens);
            }
            if !ours {
                continue; // another writer has renamed or removed it meanwhile
            }
            // A text that was only touched, or copied, is read once, and not encoded again.
            let digest: [u8; 32] = Sha256::digest(self.bytes).into();
            let written = match map(path, key, |header| header[DIGEST] == digest)? {
                Some(Tokens::Mapped { bytes, .. }) => copy(&draft, &bytes, &changed),
                _ => self.write(&draft, key, &digest, &changed),
            };
            let written = written.and_then(|()| Ok(fs::rename(&partial, path)?));
            if written.is_err() {
                let _ = fs::remove_file(&partial);
            }
            written.with_context(|| format!("cannot write {}", path.display()))?;
        }
    }

    fn write(
        &self,
        draft: &File,
        key: &[u8; 32],
        digest: &[u8; 32],
        changed: &[u8; 8],
    ) -> Result<()> {
        as_text(self.bytes)?;
        let (megabytes, shown) = (self.bytes.len() as f64 / 1e6, self.path.display());
        (self.say)(&format!(
            "encoding {shown}, {megabytes:.1} MB of text, once for all later runs"
        ));
        draft.set_len(0)?;
        let (mut file, mut highest) = (BufWriter::new(draft), 0);
        file.write_all(&[0; HEADER])?;
        self.encode(|some| {
            highest = some.iter().copied().fold(highest, u32::max);
            some.iter().try_for_each(|id| Ok(file.write_all(&id.to_le_bytes())?))
        })?;
        file.rewind()?;
        file.write_all(&[&MAGIC[..], key, digest, changed, &highest.to_le_bytes()].concat())?;
        file.flush()?;
        Ok(draft.sync_all()?)
    }
}

/// The tokens of `kept`, for a text that was last changed at another time. The header last: a
/// draft without one is none.
fn copy(draft: &File, kept: &[u8], changed: &[u8; 8]) -> Result<()> {
    draft.set_len(0)?;
    let mut header = kept[..HEADER].to_vec();
    header[CHANGED].copy_from_slice(changed);
    let mut file = BufWriter::new(draft);
    file.write_all(&[0; HEADER])?;
    file.write_all(&kept[HEADER..])?;
    file.rewind()?;
    file.write_all(&header)?;
    file.flush()?;
    Ok(draft.sync_all()?)
}

/// The tokens of `path`, if it is whole, has this key, and its header is the right one.
fn map(path: &Path, key: &[u8; 32], is_right: impl Fn(&[u8]) -> bool) -> Result<Option<Tokens>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| format!("cannot read {}", path.display()))?,
    };
    if file.metadata()?.len() < HEADER as u64 {
        return Ok(None);
    }
    // SAFETY: read-only and private, and files of this name are replaced, never changed.
    let bytes = unsafe { Mmap::map(&file) }?;
    let header = &bytes[..HEADER];
    let begins = header.starts_with(&[&MAGIC[..], key].concat());
    if !begins || !is_right(header) || bytes.len() % 4 != 0 {
        return Ok(None);
    }
    let highest = header[HIGHEST].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    Ok(Some(Tokens::Mapped { bytes, start: HEADER, width: 4, highest }))
}

/// Whether the open file is still the one of that path.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests;
