//! Puts pictures into the page itself, so that they take the page's colours, light, dark and print.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::directive::Directive;
use crate::drawings;
use crate::listing::escaped;

/// Drawings up to this wide can be read on a phone.
const WIDTH: f64 = 520.0;

/// `{{#svg pictures/FILE.svg caption="…"}}` includes a drawing from a file under `book/`.
pub fn svg(ask: &Directive, book: &Path) -> Result<String> {
    let [path] = ask.shape(["pictures/file.svg"], &["caption"])?;
    let text =
        std::fs::read_to_string(book.join(path)).with_context(|| format!("reading {path}"))?;
    figure(&text, ask.named("caption")).with_context(|| format!("the picture {path}"))
}

/// `{{#draw NAME caption="…"}}` includes one of the drawings that this program makes.
pub fn draw(ask: &Directive) -> Result<String> {
    let [name] = ask.shape(["name"], &["caption"])?;
    figure(&drawings::by_name(name)?, ask.named("caption"))
}

/// An inline figure without blank lines.
///
/// # Errors
/// When the drawing cannot be scaled, or says nothing to a reader who cannot see it.
pub(crate) fn figure(svg: &str, caption: Option<&str>) -> Result<String> {
    let Some(start) = svg.find("<svg") else { bail!("has no <svg> element") };
    let svg = &svg[start..];
    for needed in ["viewBox=", "<title>", "<desc>", "role=\"img\""] {
        if !svg.contains(needed) {
            bail!("lacks {needed}");
        }
    }
    let svg = &unshrunk(svg);
    let lines: Vec<&str> = svg.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let caption = caption.map(|text| format!("<figcaption>{}</figcaption>", escaped(text)));
    let caption = caption.unwrap_or_default();
    Ok(format!("<figure class=\"picture\">{}{caption}</figure>\n", lines.join("\n")))
}

/// The drawing with a width below which it does not shrink, if it is wider than a page on a phone:
/// it scrolls there.
fn unshrunk(svg: &str) -> String {
    let width = svg.split("viewBox=\"0 0 ").nth(1).and_then(|rest| rest.split(' ').next());
    match width.and_then(|width| width.parse::<f64>().ok()) {
        Some(width) if width > WIDTH => {
            svg.replacen("<svg", &format!("<svg style=\"min-width: {width}px\""), 1)
        }
        _ => svg.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_must_speak_to_screen_readers() {
        let silent = "<svg viewBox=\"0 0 1 1\" role=\"img\"><title>A</title></svg>";
        assert_eq!(figure(silent, None).unwrap_err().to_string(), "lacks <desc>");
        let speaking = silent.replace("</title>", "</title>\n\n<desc>B</desc>");
        assert!(!figure(&speaking, Some("C")).unwrap().contains("\n\n"));
    }
    #[test]
    fn a_wide_picture_does_not_shrink() {
        let of = |width: u32| {
            let view = format!("<svg viewBox=\"0 0 {width} 10\" role=\"img\">");
            figure(&format!("{view}<title>A</title><desc>B</desc></svg>"), None).unwrap()
        };
        assert!(of(720).contains("<svg style=\"min-width: 720px\" viewBox"));
        assert!(!of(520).contains("style"));
    }
}
