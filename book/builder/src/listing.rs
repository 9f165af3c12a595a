//! Writes listings and diffs as HTML, one span a line.

use crate::lex::{Kind, Language, lex};

/// One line of a listing.
pub struct Row {
    /// `+`, `-`, or a space.
    pub sign: char,
    /// Line number in its file.
    pub number: usize,
    /// The line as coloured by [`coloured`].
    pub html: String,
}

/// A listing as one block of HTML without blank lines, so that Markdown leaves it alone.
///
/// `file` names what is shown and `place` where in it; `groups` are pieces that do not adjoin.
pub fn figure(class: &str, file: &str, place: &str, groups: &[Vec<Row>]) -> String {
    let file = escaped(file);
    let place = escaped(place);
    let mut html = format!(
        "<figure class=\"listing {class}\"><figcaption><span class=\"file\">{file}</span> \
         <span class=\"place\">{place}</span></figcaption>\
         <pre tabindex=\"0\" role=\"region\" aria-label=\"{file} {place}\">"
    );
    for (i, rows) in groups.iter().enumerate() {
        if i > 0 {
            html.push_str("<span class=\"row gap\">⋯\n</span>");
        }
        for row in rows {
            html.push_str(&line(row));
        }
    }
    html.push_str("</pre></figure>\n");
    html
}

fn line(row: &Row) -> String {
    let class = match row.sign {
        '+' => "row add",
        '-' => "row del",
        _ => "row",
    };
    let Row { sign, number, html } = row;
    format!(
        "<span class=\"{class}\"><span class=\"no\">{number}</span>\
         <span class=\"sign\">{sign}</span>{html}\n</span>"
    )
}

/// The lines of `source` as HTML. The classes are those of mdBook's own highlighter, so the
/// colours follow the reader's theme.
pub fn coloured(source: &str, language: Language) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (kind, range) in lex(source, language) {
        for (i, part) in source[range].split('\n').enumerate() {
            if i > 0 {
                lines.push(String::new());
            }
            if let (Some(line), false) = (lines.last_mut(), part.is_empty()) {
                match class(kind) {
                    Some(class) => {
                        line.push_str(&format!("<span class=\"{class}\">{}</span>", escaped(part)));
                    }
                    None => line.push_str(&escaped(part)),
                }
            }
        }
    }
    lines
}

fn class(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Plain | Kind::Open | Kind::Close => None,
        Kind::Comment => Some("hljs-comment"),
        Kind::Text => Some("hljs-string"),
        Kind::Number => Some("hljs-number"),
        Kind::Keyword => Some("hljs-keyword"),
        Kind::Type => Some("hljs-type"),
        Kind::Definition => Some("hljs-title"),
        Kind::Attribute => Some("hljs-meta"),
    }
}

/// `text` for use inside HTML, attributes included.
pub fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colouring_keeps_every_line_and_character() {
        let source = include_str!("listing.rs");
        let tags = regex::Regex::new("<[^>]*>").unwrap();
        let lines = coloured(source, Language::Rust);
        for (html, line) in lines.iter().zip(source.split('\n')) {
            assert_eq!(tags.replace_all(html, ""), escaped(line));
        }
        assert_eq!(lines.len(), source.split('\n').count());
    }

    #[test]
    fn a_figure_has_no_blank_line() {
        let row = |html: &str| Row { sign: '+', number: 1, html: html.to_owned() };
        let html = figure("diff", "a.rs", "", &[vec![row(""), row("x")], vec![row("")]]);
        assert!(!html.contains("\n\n"), "a blank line would end the HTML block: {html}");
    }
}
