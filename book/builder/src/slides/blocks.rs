//! A chapter as a list of blocks, from its own source: what slides and the sheet of answers are
//! made of.

use std::path::Path;

use anyhow::{Result, anyhow};
use pulldown_cmark::{Event, Parser, Tag};

use super::markdown::options;
use crate::coverage::Explained;
use crate::directive::Directive;
use crate::lesson::answer;
use crate::steps::Step;

/// A block of a chapter.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A heading, as Markdown.
    Heading { level: usize, text: String },
    /// Ordinary text, as Markdown: formulas are still LaTeX.
    Prose { kind: Kind, text: String },
    /// What a directive shows, as HTML.
    Figure { name: String, html: String },
    /// A box of this class begins.
    Open(String),
    /// A box ends.
    Close,
    /// What is folded away begins.
    Fold,
    /// What is folded away ends.
    Unfold,
    /// `<!-- slide: WORD -->`.
    Mark(String),
}

/// What kind of text a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Paragraph,
    List,
    Table,
    Code,
    Other,
}

/// The blocks of `markdown`, its directives answered as in the book.
///
/// # Errors
/// Names the line of a directive that cannot be answered.
pub fn blocks(markdown: &str, root: &Path, steps: &[Step]) -> Result<Vec<Block>> {
    let (mut found, mut text) = (Vec::new(), String::new());
    let mut fenced = false;
    for (i, line) in markdown.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        let at = |error| anyhow!("{}: {}: {error:#}", i + 1, line.trim());
        let block = match (fenced, structure(line)) {
            (true, _) => None,
            (false, Some(block)) => Some(block),
            // The heading of what is folded: each use says its own.
            (false, None) if line.trim().starts_with("<summary>") => continue,
            (false, None) => match Directive::parse(line).map_err(at)? {
                Some(ask) => {
                    let html = answer(&ask, root, steps, &mut Explained::default()).map_err(at)?;
                    if matches!(ask.name.as_str(), "predict" | "questions") {
                        found.extend(prose(&std::mem::take(&mut text)));
                        found.extend(questions(&html));
                        continue;
                    }
                    Some(Block::Figure { name: ask.name, html })
                }
                None => None,
            },
        };
        match block {
            Some(block) => {
                found.extend(prose(&std::mem::take(&mut text)));
                found.push(block);
            }
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    found.extend(prose(&text));
    Ok(found)
}

/// Questions that the page marks, as two numbered lists: what is asked, and, folded, the answers.
/// The page's fields, buttons and scores are left out.
fn questions(html: &str) -> Vec<Block> {
    let (mut asked, mut ways) = (Vec::<String>::new(), Vec::<String>::new());
    let (mut in_form, mut in_way) = (false, false);
    for line in html.lines() {
        let start = line.trim_start();
        in_form |= start.starts_with("<form");
        if in_form {
            in_form = !line.contains("</form>");
        } else if start.starts_with("<details") {
            in_way = true;
            ways.push(String::new());
        } else if start.starts_with("</details>") {
            in_way = false;
        } else if start.starts_with("<div class=\"question\"") {
            asked.push(String::new());
        } else if !start.starts_with("<div")
            && !start.starts_with("</div")
            && !start.starts_with("<p")
        {
            let part = if in_way { &mut ways } else { &mut asked };
            if let Some(last) = part.last_mut() {
                last.push_str(line);
                last.push('\n');
            }
        }
    }
    let list = |items: &[String]| {
        let item = |(i, text): (usize, &String)| {
            let mark = format!("**{}.** ", i + 1);
            let text = text.trim();
            let text = text.strip_prefix(&mark).unwrap_or(text).replace('\n', "\n   ");
            format!("{}. {text}\n", i + 1)
        };
        let text = items.iter().enumerate().map(item).collect::<String>().trim_end().to_owned();
        Block::Prose { kind: Kind::List, text }
    };
    if asked.is_empty() {
        return Vec::new();
    }
    vec![list(&asked), Block::Fold, list(&ways), Block::Unfold]
}

/// The block that a line of HTML is.
fn structure(line: &str) -> Option<Block> {
    let line = line.trim();
    if let Some(class) = line.strip_prefix("<div class=\"box ") {
        return class.split('"').next().map(|class| Block::Open(class.to_owned()));
    }
    if let Some(mark) = line.strip_prefix("<!-- slide:") {
        return mark.strip_suffix("-->").map(|mark| Block::Mark(mark.trim().to_owned()));
    }
    match line {
        "</div>" => Some(Block::Close),
        "</details>" => Some(Block::Unfold),
        line if line.starts_with("<details") => Some(Block::Fold),
        _ => None,
    }
}

/// The top-level blocks of text without directives.
fn prose(markdown: &str) -> Vec<Block> {
    let (mut found, mut depth) = (Vec::new(), 0_usize);
    for (event, range) in Parser::new_ext(markdown, options()).into_offset_iter() {
        match event {
            Event::Start(tag) => {
                if depth == 0 {
                    let text = markdown[range].trim_end().to_owned();
                    found.push(match tag {
                        Tag::Heading { level, .. } => {
                            let text = text.trim_start_matches(['#', ' ']).to_owned();
                            Block::Heading { level: level as usize, text }
                        }
                        Tag::Paragraph => Block::Prose { kind: Kind::Paragraph, text },
                        Tag::List(_) => Block::Prose { kind: Kind::List, text },
                        Tag::Table(_) => Block::Prose { kind: Kind::Table, text },
                        Tag::CodeBlock(_) => Block::Prose { kind: Kind::Code, text },
                        _ => Block::Prose { kind: Kind::Other, text },
                    });
                }
                depth += 1;
            }
            Event::End(_) => depth -= 1,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_that_the_page_marks_are_lists() {
        let one = |n: usize| {
            format!(
                "<div class=\"question\" id=\"a-{n}\">\n<div class=\"ask\">\n\n**{n}.** How many?\n\n\
                 </div>\n<form class=\"try\"><label>Yours</label>\n<input>\n</form>\n\
                 <p class=\"line\">Answer:</p>\n<div class=\"listed\">\n\n- few\n- many\n\n</div>\n\
                 <details class=\"way\"><summary>Answer</summary>\n\n**{n}0 bytes.** So.\n\n\
                 </details>\n</div>\n"
            )
        };
        let found = questions(&format!("{}{}<p class=\"score\"></p>\n", one(1), one(2)));
        let [Block::Prose { text: asked, .. }, Block::Fold, Block::Prose { text: ways, .. }, _] =
            &found[..]
        else {
            panic!("{found:?}");
        };
        let asked: Vec<_> = super::super::markdown::items(asked);
        assert_eq!(asked.len(), 2);
        assert!(asked[1].1.starts_with("How many?") && asked[1].1.contains("- many"));
        assert!(!asked[1].1.contains('<'), "{asked:?}");
        assert_eq!(super::super::markdown::items(ways)[1].1, "**20 bytes.** So.");
    }

    #[test]
    fn a_chapter_becomes_its_blocks() {
        let text = "# A\n\nOne.\n\n<div class=\"box predict\">\n\n### Predict\n\n1. x\n2. y\n\n\
                    <details>\n<summary>Answers</summary>\n\n```sh\n</div>\n```\n\n</details>\n</div>\n\
                    <!-- slide: skip -->\n";
        let found = blocks(text, Path::new("."), &[]).unwrap();
        let code = Block::Prose { kind: Kind::Code, text: "```sh\n</div>\n```".to_owned() };
        assert_eq!(found[2], Block::Open("predict".to_owned()));
        assert_eq!(found[5..8], [Block::Fold, code, Block::Unfold]);
        assert_eq!(found[9], Block::Mark("skip".to_owned()));
        assert_eq!(found.len(), 10);
    }
}
