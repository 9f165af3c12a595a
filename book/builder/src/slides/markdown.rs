//! Pieces of Markdown as HTML, with formulas and without links.

use anyhow::Result;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

use crate::math::with_mathml;

/// The extensions of Markdown that the book uses.
pub fn options() -> Options {
    Options::ENABLE_MATH | Options::ENABLE_TABLES | Options::ENABLE_SMART_PUNCTUATION
}

/// `markdown` as HTML, its formulas included. Links become plain text: a file that is handed on
/// alone has nothing beside it.
///
/// # Errors
/// On a formula that is not valid LaTeX.
pub fn to_html(markdown: &str) -> Result<String> {
    let text = with_mathml(markdown)?;
    let linked = |event: &Event| {
        matches!(event, Event::Start(Tag::Link { .. })) || matches!(event, Event::End(TagEnd::Link))
    };
    let mut out = String::new();
    html::push_html(&mut out, Parser::new_ext(&text, options()).filter(|event| !linked(event)));
    Ok(out.trim().to_owned())
}

/// The same without the paragraph around it, for use in a heading or a sentence.
///
/// # Errors
/// As [`to_html`].
pub fn inline(markdown: &str) -> Result<String> {
    let html = to_html(markdown)?;
    let inner = html.strip_prefix("<p>").and_then(|html| html.strip_suffix("</p>"));
    Ok(inner.unwrap_or(&html).to_owned())
}

/// How many characters a reader sees of `html`.
pub fn visible(html: &str) -> usize {
    let (mut count, mut hidden) = (0, None);
    for c in html.chars() {
        match (c, hidden) {
            ('<', None) => hidden = Some('>'),
            // An entity is one character.
            ('&', None) => {
                hidden = Some(';');
                count += 1;
            }
            (c, Some(end)) if c == end => hidden = None,
            (_, Some(_)) => {}
            (c, None) if c != '\n' => count += 1,
            _ => {}
        }
    }
    count
}

/// The items of a list, each as Markdown of its own, with its number if it has one.
pub fn items(list: &str) -> Vec<(Option<u64>, String)> {
    let (mut found, mut depth, mut number) = (Vec::new(), 0_usize, None);
    for (event, range) in Parser::new_ext(list, options()).into_offset_iter() {
        match event {
            Event::Start(tag) => {
                match tag {
                    Tag::List(first) if depth == 0 => number = first,
                    Tag::Item if depth == 1 => {
                        found.push((number, dedented(&list[range])));
                        number = number.map(|n| n + 1);
                    }
                    _ => {}
                }
                depth += 1;
            }
            Event::End(_) => depth -= 1,
            _ => {}
        }
    }
    found
}

/// An item without its bullet or number, and without the indentation that goes with it.
fn dedented(item: &str) -> String {
    let width = item.find(' ').map_or(0, |at| at + 1);
    let strip = |line: &str| {
        let indent = line.len() - line.trim_start().len();
        line[indent.min(width)..].to_owned()
    };
    let mut lines = item.lines();
    let first = lines.next().map(|line| line[width..].to_owned()).unwrap_or_default();
    let rest: Vec<String> = lines.map(strip).collect();
    format!("{first}\n{}", rest.join("\n")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_numbers_and_lose_their_indentation() {
        let found = items("3. one\n   more\n4. two\n\n   $$x$$\n");
        assert_eq!(found[0], (Some(3), "one\nmore".to_owned()));
        assert_eq!(found[1], (Some(4), "two\n\n$$x$$".to_owned()));
    }

    #[test]
    fn text_is_rendered_without_links() {
        let html = inline("See [step 2](step02.md): `a < b`, $x$").unwrap();
        assert!(html.starts_with("See step 2: <code>a &lt; b</code>, <math"), "{html}");
        assert_eq!(visible("a<b>b</b> &lt;"), 4);
    }
}
