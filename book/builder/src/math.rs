//! Turns `$…$` and `$$…$$` into MathML.

use anyhow::{Result, anyhow};
use pulldown_cmark::{Event, Options, Parser as Markdown};
use pulldown_latex::config::DisplayMode;
use pulldown_latex::{Parser, RenderConfig, Storage, push_mathml};

/// `markdown` with its formulas replaced. Dollar signs in code and in HTML blocks are left alone,
/// since the same parser that mdBook uses finds the formulas.
///
/// # Errors
/// On a formula that is not valid LaTeX.
pub fn with_mathml(markdown: &str) -> Result<String> {
    let options =
        Options::ENABLE_MATH | Options::ENABLE_TABLES | Options::ENABLE_HEADING_ATTRIBUTES;
    let (mut out, mut done) = (String::new(), 0);
    for (event, range) in Markdown::new_ext(markdown, options).into_offset_iter() {
        let (latex, mode) = match event {
            Event::InlineMath(latex) => (latex, DisplayMode::Inline),
            Event::DisplayMath(latex) => (latex, DisplayMode::Block),
            _ => continue,
        };
        out.push_str(&markdown[done..range.start]);
        out.push_str(&mathml(&latex, mode)?);
        done = range.end;
    }
    out.push_str(&markdown[done..]);
    Ok(out)
}

fn mathml(latex: &str, mode: DisplayMode) -> Result<String> {
    let storage = Storage::new();
    let parsed: Result<Vec<_>, _> = Parser::new(latex, &storage).collect();
    let events = parsed.map_err(|error| anyhow!("the formula `{latex}`: {error}"))?;
    let mut html = String::new();
    let config = RenderConfig { display_mode: mode, ..RenderConfig::default() };
    let events = events.into_iter().map(Ok::<_, std::convert::Infallible>);
    push_mathml(&mut html, events, config)?;
    Ok(shielded(&html))
}

/// `html` with the characters that Markdown would read as markup written as entities, outside tags.
fn shielded(html: &str) -> String {
    let mut out = String::new();
    let mut in_tag = false;
    for c in html.chars() {
        match c {
            '<' => in_tag = true,
            '>' => in_tag = false,
            '\n' => continue,
            '*' | '_' | '[' | ']' | '`' | '\\' | '~' | '|' if !in_tag => {
                out.push_str(&format!("&#{};", u32::from(c)));
                continue;
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_mathml_and_code_does_not() {
        let html = with_mathml("The ring sends $2(n-1)$ chunks; run `echo $HOME $PATH`.").unwrap();
        assert!(html.contains("<math") && !html.contains("$2"));
        assert!(html.contains("`echo $HOME $PATH`"));
    }

    #[test]
    fn nothing_in_a_formula_is_read_as_markdown() {
        let html = with_mathml(r"$\text{a *b* [c](d) `e`} | f$").unwrap();
        let parsed: Vec<Event> = Markdown::new_ext(&html, Options::all()).collect();
        assert!(!parsed.iter().any(|event| matches!(event, Event::Start(tag)
            if matches!(tag, pulldown_cmark::Tag::Emphasis))));
        assert!(!html.contains(['*', '[', '`', '|']), "{html}");
    }

    #[test]
    fn a_bad_formula_is_an_error() {
        assert!(with_mathml(r"$\frac{1}$").is_err());
        assert!(with_mathml(r"$\nosuchcommand$").is_err());
    }
}
