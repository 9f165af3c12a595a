//! The file of tokens: little-endian, u16 in `.bin` and u32 in `.u32`.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that has its name once it is whole.
pub(crate) struct Output {
    path: PathBuf,
    draft: PathBuf,
    file: BufWriter<File>,
    width: usize,
}

impl Output {
    /// Begins the file `path`, whose highest token may be `highest`.
    ///
    /// # Errors
    /// In a sentence, if it cannot be written or cannot hold such a token.
    pub fn create(path: &Path, highest: u32) -> Result<Self> {
        let shown = path.display();
        let Some(width) = data::token_width(path) else {
            bail!("out is {shown}, but must end in .bin (tokens of two bytes) or .u32 (of four)");
        };
        ensure!(
            width == 4 || highest <= u16::MAX.into(),
            "out is {shown}, whose tokens end at {}, but the tokenizer's highest is {highest}: use a .u32 file",
            u16::MAX
        );
        ensure!(!path.is_dir(), "out is {shown}, which is a directory");
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        let draft = path.with_file_name(name);
        let file =
            File::create(&draft).with_context(|| format!("out {shown} cannot be written"))?;
        Ok(Self { path: path.to_owned(), draft, file: BufWriter::new(file), width })
    }

    pub fn write(&mut self, ids: &[u32]) -> Result<()> {
        let width = self.width;
        let written = ids.iter().try_for_each(|id| self.file.write_all(&id.to_le_bytes()[..width]));
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    pub fn finish(mut self) -> Result<()> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.draft, &self.path))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// What did not become whole goes.
impl Drop for Output {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.draft); // where it is whole, it has another name
    }
}
