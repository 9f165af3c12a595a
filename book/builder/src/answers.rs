//! The sheet of answers for whoever teaches: every question of the book whose answer is folded
//! away, with its answer, chapter by chapter.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::slides::blocks::{Block, Kind};
use crate::slides::markdown::{inline, items, to_html};
use crate::slides::{chapters, deck, save};

const STYLE: &str = include_str!("answers.css");

/// A heading with what stands open below it, and what is folded away.
#[derive(Default)]
struct Section {
    heading: String,
    open: Vec<Block>,
    folded: Vec<Block>,
}

/// Writes `book/out/answers.html`; returns where it is. No page of the book leads to it.
///
/// # Errors
/// When a chapter cannot be read, or the page cannot be written.
pub fn write(root: &Path) -> Result<PathBuf> {
    let book = root.join("book");
    let out = book.join("out");
    std::fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let path = out.join("answers.html");
    save(&path, &page(root)?)?;
    Ok(path)
}

/// The page.
///
/// # Errors
/// As [`write()`].
pub(crate) fn page(root: &Path) -> Result<String> {
    let (mut list, mut body) = (String::new(), String::new());
    for chapter in chapters(root, "no-answers")? {
        let found: Vec<Section> = sections(&chapter.blocks);
        if found.is_empty() {
            continue;
        }
        let (stem, name) = (&chapter.stem, inline(&chapter.name)?);
        list.push_str(&format!("<li><a href=\"#{stem}\">{name}</a></li>\n"));
        body.push_str(&format!("<section>\n<h2 id=\"{stem}\">{name}</h2>\n"));
        for section in &found {
            let entry = entry(section);
            body.push_str(&entry.with_context(|| format!("the answers of book/src/{stem}.md"))?);
        }
        body.push_str("</section>\n");
    }
    let head = deck::head(&root.join("book"), "Answers", STYLE, &body)?;
    Ok(format!(
        "{head}<body>\n<h1>Answers</h1>\n<p>For whoever teaches: all questions of the book with \
         their answers, taken from its chapters. No page of the book leads here.</p>\n\
         <ul class=\"contents\">\n{list}</ul>\n{body}</body>\n</html>\n"
    ))
}

/// The sections that fold something away.
fn sections(blocks: &[Block]) -> Vec<Section> {
    let mut found = vec![Section::default()];
    let (mut is_folded, mut chapter) = (false, String::new());
    for block in blocks {
        match block {
            Block::Heading { text, level } => {
                // "Answers" and "Solution" say less than the section that they are in.
                chapter = if *level < 3 { text.clone() } else { chapter };
                let heading = text.clone();
                found.push(Section { heading, ..Section::default() });
            }
            // A box without a heading of its own is about its section.
            Block::Open(_) => {
                found.push(Section { heading: chapter.clone(), ..Section::default() });
            }
            Block::Close => found.push(Section::default()),
            Block::Fold | Block::Unfold => is_folded = matches!(block, Block::Fold),
            Block::Mark(_) => {}
            block => {
                if let Some(section) = found.last_mut() {
                    let part = if is_folded { &mut section.folded } else { &mut section.open };
                    part.push(block.clone());
                }
            }
        }
    }
    found.retain(|section| !section.folded.is_empty());
    found
}

/// A section as HTML: question by question where both sides are lists of equal length.
fn entry(section: &Section) -> Result<String> {
    let mut html = format!("<h3>{}</h3>\n", inline(&section.heading)?);
    let (questions, answers) = (numbered(&section.open), numbered(&section.folded));
    if let (Some((before, questions, after)), Some((intro, answers, rest))) = (questions, answers)
        && questions.len() == answers.len()
    {
        html.push_str(&all(before)?);
        html.push_str(&all(after)?);
        html.push_str(&all(intro)?);
        html.push_str("<ol>\n");
        for ((_, question), (_, answer)) in questions.iter().zip(&answers) {
            html.push_str(&format!(
                "<li><div class=\"question\">{}</div>\n<div class=\"answer\">{}</div></li>\n",
                to_html(question)?,
                to_html(answer)?
            ));
        }
        html.push_str("</ol>\n");
        html.push_str(&all(rest)?);
        return Ok(html);
    }
    let (open, folded) = (all(&section.open)?, all(&section.folded)?);
    html.push_str(&format!(
        "<div class=\"question\">{open}</div>\n<div class=\"answer\">{folded}</div>\n"
    ));
    Ok(html)
}

type Numbered = Vec<(Option<u64>, String)>;

/// The only numbered list among `blocks`, and what stands before and behind it.
fn numbered(blocks: &[Block]) -> Option<(&[Block], Numbered, &[Block])> {
    let list = |block: &Block| match block {
        Block::Prose { kind: Kind::List, text } => {
            Some(items(text)).filter(|items| items[0].0.is_some())
        }
        _ => None,
    };
    let mut found = blocks.iter().enumerate().filter_map(|(i, block)| Some((i, list(block)?)));
    match (found.next(), found.next()) {
        (Some((at, items)), None) => Some((&blocks[..at], items, &blocks[at + 1..])),
        _ => None,
    }
}

fn all(blocks: &[Block]) -> Result<String> {
    let mut html = String::new();
    for block in blocks {
        match block {
            Block::Prose { text, .. } => html.push_str(&to_html(text)?),
            Block::Figure { html: figure, .. } => html.push_str(figure),
            _ => {}
        }
        html.push('\n');
    }
    Ok(html)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slides::blocks::blocks;

    fn made(text: &str) -> Vec<String> {
        let found = blocks(text, Path::new("."), &[]).unwrap();
        sections(&found).iter().map(|section| entry(section).unwrap()).collect()
    }

    #[test]
    fn questions_stand_beside_their_answers() {
        let text = "# A\n\n## Predict\n\nGiven two.\n\n1. First?\n2. Second?\n\n<details>\n\
                    <summary>Answers</summary>\n\n1. One.\n2. Two.\n\n</details>\n\n## Other\n\nText.\n";
        let found = made(text);
        assert_eq!(found.len(), 1);
        let places = ["Given two.", "First?", "One.", "Second?", "Two."];
        let at: Vec<usize> = places.iter().map(|text| found[0].find(text).unwrap()).collect();
        assert!(at.is_sorted(), "{}", found[0]);
    }

    #[test]
    fn one_question_has_one_answer() {
        let found = made("## Why\n\nWhy?\n\n<details>\n\nSo.\n\n```sh\nrun\n```\n\n</details>\n");
        assert!(found[0].contains("<div class=\"answer\"><p>So.</p>"));
        assert!(found[0].contains("run"));
    }

    #[test]
    fn every_answer_of_the_book_is_on_the_sheet() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let page = page(&root).unwrap();
        let mut count = 0;
        for chapter in chapters(&root, "no-answers").unwrap() {
            let mut is_folded = false;
            for block in &chapter.blocks {
                match block {
                    Block::Fold | Block::Unfold => is_folded = matches!(block, Block::Fold),
                    Block::Prose { kind: Kind::Paragraph, text } if is_folded => {
                        assert!(page.contains(&to_html(text).unwrap()), "{}: {text}", chapter.stem);
                        count += 1;
                    }
                    Block::Prose { kind: Kind::List, text } if is_folded => {
                        for (_, item) in items(text) {
                            let html = to_html(&item).unwrap();
                            assert!(page.contains(&html), "{}: {item}", chapter.stem);
                            count += 1;
                        }
                    }
                    _ => {}
                }
            }
        }
        assert!(count > 40, "only {count} answers");
    }
}
