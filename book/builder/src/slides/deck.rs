//! One file of HTML for a chapter's slides: nothing beside it is needed to show it.

use std::path::Path;

use anyhow::{Context, Result};

use super::size;
use super::slide::Slide;
use crate::listing::escaped;

const STYLE: &str = include_str!("deck.css");
const SCRIPT: &str = include_str!("deck.js");

/// What every page made here has in its head: the book's own style sheet, so that colours and
/// pictures are those of the book, and `style` after it.
///
/// # Errors
/// When a file of the theme cannot be read.
pub fn head(book: &Path, title: &str, style: &str, body: &str) -> Result<String> {
    let read =
        |path: &str| std::fs::read(book.join(path)).with_context(|| format!("reading book/{path}"));
    let theme = String::from_utf8(read("theme/book.css")?).context("book/theme/book.css")?;
    // A page without formulas does without the font for them, which is larger than all else.
    const FONT: &str = "../fonts/latinmodern-math.woff2";
    let font = match body.contains("<math") {
        true => base64::encode(read("src/fonts/latinmodern-math.woff2")?),
        false => String::new(),
    };
    let theme = theme.replace(FONT, &format!("data:font/woff2;base64,{font}"));
    let title = escaped(title);
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\" class=\"light\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{theme}\n{style}\n</style>\n</head>\n"
    ))
}

/// The deck of the chapter called `chapter`.
///
/// # Errors
/// As [`head`].
pub fn html(book: &Path, chapter: &str, slides: &[Slide]) -> Result<String> {
    let count = slides.len();
    let sections: String =
        slides.iter().enumerate().map(|(i, slide)| section(slide, chapter, i + 1, count)).collect();
    let head = head(book, chapter, STYLE, &sections)?;
    Ok(format!(
        "{head}<body>\n<div class=\"stage\">\n{sections}</div>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    ))
}

fn section(slide: &Slide, chapter: &str, number: usize, count: usize) -> String {
    let Slide { class, title, body, notes } = slide;
    let heading = if class == "title" { "h1" } else { "h2" };
    let notes = match notes.as_str() {
        "" => String::new(),
        notes => format!("<aside class=\"notes\">{notes}</aside>\n"),
    };
    let chapter = escaped(chapter);
    let code = size::code(slide);
    format!(
        "<section class=\"slide {class}\" id=\"{number}\" style=\"--code: {code}px\">\n<{heading}>{title}</{heading}>\n\
         <div class=\"room\">\n{body}</div>\n\
         <footer><span>{chapter}</span><span>{number} / {count}</span></footer>\n\
         {notes}</section>\n"
    )
}

/// A page that leads to all decks: their files, titles and numbers of slides.
///
/// # Errors
/// As [`head`].
pub fn index(book: &Path, decks: &[(String, String, usize)]) -> Result<String> {
    let line = |(file, title, count): &(String, String, usize)| {
        format!("<li><a href=\"{file}\">{}</a> <span>{count} slides</span></li>\n", escaped(title))
    };
    let list: String = decks.iter().map(line).collect();
    let keys = "Arrow keys or space turn the page, Home and End go to the first and the last, F \
                fills the screen, N shows what the chapter says there. Printing gives one slide \
                a page.";
    Ok(format!(
        "{}<body class=\"index\">\n<h1>Slides</h1>\n<p>{keys}</p>\n<ul>\n{list}</ul>\n</body>\n\
         </html>\n",
        head(book, "Slides", STYLE, "")?
    ))
}
