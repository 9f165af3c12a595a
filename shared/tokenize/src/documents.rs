//! What stands in a file, by its ending.

use crate::{columns, lines, text};
use anyhow::{Result, bail};
use data::HuggingFace;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Some text, small enough to be one thread's work.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// Whole documents.
    Documents(Vec<String>),
    /// A part of a long one, from one cut of `shown` to another, and whether it is the last.
    Part { shown: Arc<str>, part: Range<usize>, is_last: bool },
}

/// What kind of file this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The file is one document.
    Text,
    /// An object a line, and in it the text.
    Lines,
    /// A row a document, and a column of text.
    Columns,
}

impl Kind {
    /// By the file's ending; text, if it says nothing.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        Ok(match &*ending {
            "jsonl" | "ndjson" | "json" => Self::Lines,
            "parquet" => Self::Columns,
            "gz" | "zst" | "xz" | "bz2" | "zip" | "tar" => {
                bail!("{} is compressed: unpack it first", path.display())
            }
            "bin" | "u32" | "tokens" => bail!("{} holds tokens, and not text", path.display()),
            _ => Self::Text,
        })
    }
}

/// How a file is read.
pub(crate) struct Reading<'a> {
    pub tokenizer: &'a HuggingFace,
    /// The field or column of the text.
    pub field: &'a str,
    /// About so many bytes of text make a piece.
    pub size: usize,
    /// Told how many bytes of the file have been read since it was told last.
    pub seen: &'a mut dyn FnMut(u64),
}

/// Hands the documents of a file to `take`, in order.
///
/// # Errors
/// In one sentence that says where: what is no text, has no such field, or cannot be read; and what
/// `take` errs with.
pub(crate) fn read(
    path: &Path,
    reading: &mut Reading,
    take: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<()> {
    match Kind::of(path)? {
        Kind::Text => text::read(path, reading, take),
        Kind::Lines => lines::read(path, reading, take),
        Kind::Columns => columns::read(path, reading, take),
    }
}

/// Gathers documents until they make a piece.
#[derive(Default)]
pub(crate) struct Gathered {
    documents: Vec<String>,
    bytes: usize,
}

impl Gathered {
    /// Adds one, and hands all on if they are enough.
    pub fn push(
        &mut self,
        document: String,
        size: usize,
        take: &mut dyn FnMut(Piece) -> Result<()>,
    ) -> Result<()> {
        self.bytes += document.len() + 1;
        self.documents.push(document);
        if self.bytes < size { Ok(()) } else { self.flush(take) }
    }

    /// Hands on what there is.
    pub fn flush(&mut self, take: &mut dyn FnMut(Piece) -> Result<()>) -> Result<()> {
        let Self { documents, .. } = std::mem::take(self);
        if documents.is_empty() { Ok(()) } else { take(Piece::Documents(documents)) }
    }
}
