//! Chooses what of a chapter becomes a slide: headings, pictures, formulas, tables, listings with
//! the sentence above them, and boxes. The rest of the text goes into the notes.

use anyhow::{Result, bail};

use super::blocks::Block;
use super::section::Deck;
use super::slide::Slide;

/// The slides of a chapter, the first with its title.
///
/// # Errors
/// On a mark that means nothing, and on a formula that is not valid LaTeX.
pub fn slides(blocks: &[Block]) -> Result<Vec<Slide>> {
    let mut deck = Deck::default();
    let mut mark = String::new();
    let mut i = 0;
    while i < blocks.len() {
        let this = std::mem::take(&mut mark);
        let end = match &blocks[i] {
            Block::Open(_) => end_of(blocks, i, &Block::Close),
            Block::Fold => end_of(blocks, i, &Block::Unfold),
            _ => i + 1,
        };
        match &blocks[i] {
            Block::Mark(word) if matches!(word.as_str(), "skip" | "show") => mark = word.clone(),
            Block::Mark(word) => bail!("`<!-- slide: {word} -->`: the word is skip or show"),
            _ if this == "skip" => {}
            Block::Heading { level: 1, text } => deck.title(text)?,
            Block::Heading { text, .. } => deck.section(text)?,
            Block::Prose { kind, text } => deck.prose(*kind, text, this == "show")?,
            Block::Figure { html, .. } if html.starts_with("<figure class=\"picture") => {
                deck.picture(html)?;
            }
            Block::Figure { html, .. } => deck.listing(html)?,
            Block::Open(class) => deck.boxed(class, &blocks[i + 1..end])?,
            Block::Close | Block::Fold | Block::Unfold => {}
        }
        i = end;
    }
    deck.end_section()?;
    Ok(deck.slides)
}

/// The index behind the block that ends what begins at `start`.
fn end_of(blocks: &[Block], start: usize, end: &Block) -> usize {
    blocks[start..].iter().position(|block| block == end).map_or(blocks.len(), |n| start + n + 1)
}
