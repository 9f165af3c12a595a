//! The slides of a box: questions and then their answers, a bug and then what the test says, an
//! exercise without its solution, the checkpoint.

use anyhow::Result;

use super::blocks::{Block, Kind};
use super::fit;
use super::listing::Listing;
use super::markdown::inline;
use super::slide::{Piece, Slide, flow, pieces};

/// The slides of the box `class` with these `blocks`.
///
/// # Errors
/// On a formula that is not valid LaTeX.
pub fn slides(class: &str, blocks: &[Block]) -> Result<Vec<Slide>> {
    let (mut title, mut open, mut folded) = (String::new(), Vec::new(), Vec::new());
    let mut is_folded = false;
    let mut change = None;
    for block in blocks {
        let mut found = match block {
            Block::Heading { text, .. } => {
                title = inline(text)?;
                continue;
            }
            Block::Fold | Block::Unfold => {
                is_folded = matches!(block, Block::Fold);
                continue;
            }
            Block::Prose { kind, text } => pieces(*kind, text)?,
            Block::Figure { html, .. } => figure(html),
            Block::Open(_) | Block::Close | Block::Mark(_) => continue,
        };
        if let (false, "break", Block::Prose { kind, text }) = (is_folded, class, block) {
            // A bug of its own begins in bold. What comes of it is shown when all have guessed.
            let output = *kind == Kind::Code && text.starts_with("```text");
            let result = change.is_some_and(|text: &str| text.contains("Run "))
                && *kind == Kind::Paragraph
                || output;
            found[0].begins = (text.starts_with("**") || result) && change.is_some();
            change = Some(if *kind == Kind::Paragraph { text } else { "" });
        }
        if is_folded { folded.append(&mut found) } else { open.append(&mut found) }
    }
    let mut slides = flow(class, &title, open);
    // Whoever teaches has the solutions of exercises on the sheet of answers.
    if !folded.is_empty() && class != "exercise" {
        slides.extend(flow(&format!("{class} answers"), &format!("{title}: answers"), folded));
    }
    Ok(slides)
}

/// The pieces of a figure inside a box.
fn figure(html: &str) -> Vec<Piece> {
    if html.starts_with("<figure class=\"picture") {
        return vec![Piece { html: html.to_owned(), height: fit::ROOM, begins: true }];
    }
    let parts = Listing::read(html).parts(fit::ROOM);
    let piece = |html: String| Piece { height: Listing::read(&html).height(), html, begins: false };
    parts.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::blocks::blocks;
    use super::*;

    fn made(class: &str, text: &str) -> Vec<Slide> {
        slides(class, &blocks(text, Path::new("."), &[]).unwrap()).unwrap()
    }

    #[test]
    fn answers_come_on_the_next_slide() {
        let text = "### Predict\n\n1. Why?\n\n<details>\n<summary>Answers</summary>\n\n1. So.\n\n</details>\n";
        let found = made("predict", text);
        assert_eq!(found.len(), 2);
        assert!(found[0].body.contains("Why?") && !found[0].body.contains("So."));
        assert_eq!(found[1].title, "Predict: answers");
        assert_eq!(made("exercise", text).len(), 1, "solutions are for the sheet");
    }

    #[test]
    fn what_a_broken_program_says_comes_after_the_change() {
        let text = "### Break it\n\n**One.** Change it.\n\n```text\nwrong\n```\n\nWhy.\n\n**Two.** And this.\n";
        let found = made("break", text);
        assert_eq!(found.len(), 3);
        assert!(found[0].body.contains("Change it") && !found[0].body.contains("wrong"));
        assert!(found[1].body.contains("Why.") && found[2].body.contains("Two."));
    }
}
