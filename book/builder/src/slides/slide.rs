//! One slide, and text laid out over as many as it needs.

use anyhow::Result;

use super::blocks::Kind;
use super::fit;
use super::markdown::{inline, items, to_html, visible};

/// One slide.
#[derive(Debug, Default)]
pub struct Slide {
    /// What it is: its class in the style sheet.
    pub class: String,
    /// Its heading, as HTML.
    pub title: String,
    /// What it shows, as HTML.
    pub body: String,
    /// What the chapter says before it, as HTML: for whoever speaks.
    pub notes: String,
}

/// A piece of text that stays together.
pub struct Piece {
    /// As HTML.
    pub html: String,
    /// On a slide, in pixels.
    pub height: f64,
    /// Whether a new slide begins with it.
    pub begins: bool,
}

/// The pieces of a block of prose: an item of a list may stand alone.
///
/// # Errors
/// On a formula that is not valid LaTeX.
pub fn pieces(kind: Kind, markdown: &str) -> Result<Vec<Piece>> {
    if kind == Kind::Table {
        return Ok(table(&to_html(markdown)?));
    }
    if kind != Kind::List {
        let html = to_html(markdown)?;
        let height = height(kind, markdown, &html);
        return Ok(vec![Piece { html, height, begins: false }]);
    }
    let item = |(number, text): (Option<u64>, String)| {
        let inner = if text.contains("\n\n") { to_html(&text)? } else { inline(&text)? };
        let html = match number {
            Some(n) => format!("<ol start=\"{n}\"><li>{inner}</li></ol>"),
            None => format!("<ul><li>{inner}</li></ul>"),
        };
        // Indented, so a line holds less; and each paragraph or choice inside begins a line.
        let inside = inner.matches("<li>").count() + inner.matches("<p>").count();
        let height = height(Kind::Paragraph, &text, &inner)
            + (visible(&inner) / 400) as f64 * fit::LINE
            + inside as f64 * 0.7 * fit::LINE;
        Ok(Piece { html, height, begins: false })
    };
    items(markdown).into_iter().map(item).collect()
}

/// The estimate of a block's height.
fn height(kind: Kind, markdown: &str, html: &str) -> f64 {
    match kind {
        Kind::Code => {
            let lines = markdown.lines().skip(1).filter(|line| !line.starts_with("```"));
            let rows: usize =
                lines.map(|line| line.chars().count().div_ceil(fit::RUN_COLUMNS).max(1)).sum();
            rows as f64 * fit::ROW + 40.0
        }
        _ => {
            let formulas = html.matches("display=\"block\"").count();
            // Letters of a formula are wide, and its markup has none of them twice.
            fit::text(visible(html)) + 66.0 * formulas as f64
        }
    }
}

/// A table, in parts that fit on a slide below a sentence, each with the heading.
fn table(html: &str) -> Vec<Piece> {
    const ROOM: f64 = fit::ROOM - 3.0 * fit::LINE;
    let (head, rows) = html.split_once("<tbody>").unwrap_or(("<table>", html));
    // Cells share the width, so a row's text is laid over about a line's length.
    let row_height = |row: &str| visible(row).div_ceil(56).max(1) as f64 * 30.0 + 14.0;
    let mut parts = Vec::<Piece>::new();
    for row in rows.split_inclusive("</tr>").filter(|row| row.contains("<tr>")) {
        let height = row_height(row);
        match parts.last_mut() {
            Some(part) if part.height + height <= ROOM => {
                part.html.push_str(row);
                part.height += height;
            }
            _ => {
                let height = height + row_height(head);
                parts.push(Piece { html: format!("{head}<tbody>{row}"), height, begins: false });
            }
        }
    }
    parts.iter_mut().for_each(|part| part.html.push_str("</tbody></table>"));
    parts
}

/// Slides with the `pieces` one below the other, under one heading.
pub fn flow(class: &str, title: &str, pieces: Vec<Piece>) -> Vec<Slide> {
    let (mut slides, mut used) = (Vec::<Slide>::new(), f64::MAX);
    for piece in pieces {
        if used + piece.height > fit::ROOM || piece.begins {
            slides.push(Slide { class: class.into(), title: title.into(), ..Slide::default() });
            used = 0.0;
        }
        used += piece.height;
        if let Some(slide) = slides.last_mut() {
            slide.body.push_str(&piece.html);
            slide.body.push('\n');
        }
    }
    slides
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_takes_several_slides_and_keeps_its_numbers() {
        let item = |n: usize| format!("{n}. {}\n", "many words ".repeat(20));
        let list: String = (1..=9).map(item).collect();
        let slides = flow("predict", "Predict", pieces(Kind::List, &list).unwrap());
        assert!(slides.len() > 1);
        let all: String = slides.iter().map(|slide| slide.body.as_str()).collect();
        assert!(all.contains("<ol start=\"9\">"));
        assert!(slides[1].body.starts_with("<ol start=\""));
    }

    #[test]
    fn a_long_table_takes_several_slides_each_with_the_heading() {
        let row = |n: usize| format!("| {n} | {} |\n", "many words ".repeat(8));
        let table = format!("| a | b |\n|---|---|\n{}", (0..12).map(row).collect::<String>());
        let parts = pieces(Kind::Table, &table).unwrap();
        assert!(parts.len() > 1 && parts.iter().all(|part| part.height < fit::ROOM));
        assert!(parts.iter().all(|part| part.html.matches("<th>").count() == 2));
        let rows: usize = parts.iter().map(|part| part.html.matches("<tr><td>").count()).sum();
        assert_eq!(rows, 12);
    }

    #[test]
    fn a_piece_can_ask_for_a_new_slide() {
        let mut two = pieces(Kind::Paragraph, "a").unwrap();
        two.extend(pieces(Kind::Paragraph, "b").unwrap());
        assert_eq!(flow("", "", two).len(), 1);
        let mut two = pieces(Kind::Paragraph, "a").unwrap();
        two.push(Piece { begins: true, ..pieces(Kind::Paragraph, "b").unwrap().remove(0) });
        assert_eq!(flow("", "", two).len(), 2);
    }
}
