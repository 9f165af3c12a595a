//! Slides from the chapters themselves: one deck for each, as one file of HTML.

pub(crate) mod blocks;
mod boxes;
mod choose;
pub(crate) mod deck;
mod fit;
mod listing;
pub(crate) mod markdown;
mod section;
mod sentence;
mod size;
mod slide;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use mdbook_driver::MDBook;
use mdbook_preprocessor::book::BookItem;

use crate::steps::{self, Step};
use blocks::{Block, blocks};

/// A chapter that is taught, and its blocks.
pub(crate) struct Chapter {
    /// Its file without the extension, such as `step03`.
    pub stem: String,
    /// Its name in the table of contents.
    pub name: String,
    pub blocks: Vec<Block>,
}

/// The chapters of the book in order, without those that `preprocessor.lesson.KEY` names.
///
/// # Errors
/// Names the file and line of a directive that cannot be answered.
pub(crate) fn chapters(root: &Path, key: &str) -> Result<Vec<Chapter>> {
    let book = MDBook::load(root.join("book"))?;
    let without: Vec<String> =
        book.config.get(&format!("preprocessor.lesson.{key}"))?.unwrap_or_default();
    let steps: Vec<Step> = steps::load(root)?;
    let mut found = Vec::new();
    for item in book.iter() {
        let BookItem::Chapter(chapter) = item else { continue };
        let Some(path) = &chapter.path else { continue };
        let file = path.display().to_string();
        if without.contains(&file) {
            continue;
        }
        let blocks = blocks(&chapter.content, root, &steps)
            .map_err(|error| anyhow!("book/src/{file}:{error:#}"))?;
        let stem = path.with_extension("").display().to_string();
        found.push(Chapter { stem, name: chapter.name.clone(), blocks });
    }
    Ok(found)
}

/// Writes the decks to `book/out/slides`; returns the page that leads to them.
///
/// # Errors
/// When a chapter cannot be read, or a deck cannot be written.
pub fn write(root: &Path) -> Result<PathBuf> {
    let book = root.join("book");
    let out = book.join("out/slides");
    std::fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let mut decks = Vec::new();
    for chapter in chapters(root, "no-slides")? {
        let slides = choose::slides(&chapter.blocks)
            .with_context(|| format!("the slides of book/src/{}.md", chapter.stem))?;
        let file = format!("{}.html", chapter.stem);
        save(&out.join(&file), &deck::html(&book, &chapter.name, &slides)?)?;
        decks.push((file, chapter.name, slides.len()));
    }
    let index = out.join("index.html");
    save(&index, &deck::index(&book, &decks)?)?;
    crate::pages::check(&out)?;
    Ok(index)
}

/// Writes a file.
///
/// # Errors
/// Names the file that cannot be written.
pub(crate) fn save(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
