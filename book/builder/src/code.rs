//! The directives that show source: `stepdiff`, `stepcode` and `code`.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::coverage::{Explained, Side};
use crate::diff::{FileDiff, Line, file_diff};
use crate::directive::Directive;
use crate::lex::Language;
use crate::listing::{Row, coloured, figure};
use crate::select::{enclosing, item, span, unique};
use crate::steps::{Step, position};

/// Longest piece of source a reader is asked to take in at once; chapters aim at ten.
const MAX_CODE: usize = 16;
/// The same for a hunk, whose removed lines and context are read faster.
const MAX_DIFF: usize = 22;

/// `{{#stepdiff OLD NEW FILE}}` shows every hunk of a file; `hunk="text"` the one hunk with that
/// text in a changed line; `from="text"` and `to="text"` a part of either.
pub fn stepdiff(ask: &Directive, steps: &[Step], explained: &mut Explained) -> Result<String> {
    let [old, new, path] = ask.shape(["old", "new", "file"], &["hunk", "from", "to"])?;
    let (old, new) = (&steps[position(steps, old)?], &steps[position(steps, new)?]);
    let diff = file_diff(old, new, path);
    if diff.hunks.is_empty() {
        bail!("{path} is the same in {} and {}", old.name, new.name);
    }
    let mut pieces = match ask.named("hunk") {
        Some(text) => vec![the_hunk(&diff, text)?],
        None => diff.hunks.clone(),
    };
    if ask.named("from").is_some() || ask.named("to").is_some() {
        let texts: Vec<&str> = diff.lines.iter().map(|line| line.text.as_str()).collect();
        let within = pieces[0].start..pieces[pieces.len() - 1].end;
        pieces = vec![span(&texts, within, ask.named("from"), ask.named("to"))?];
    }
    let (old_html, new_html) = (colours(&diff.old_text, path), colours(&diff.new_text, path));
    let mut groups = Vec::new();
    for piece in &pieces {
        not_too_long(piece, MAX_DIFF)?;
        let lines = &diff.lines[piece.clone()];
        lines.iter().for_each(|line| explained.show_line(&new.name, path, line));
        groups.push(lines.iter().map(|line| row(line, &old_html, &new_html)).collect());
    }
    let place = match pieces[..] {
        [ref only] => place(&diff, only),
        _ => String::new(),
    };
    let file = format!("{} → {}  {path}", old.name, new.name);
    Ok(figure("diff", &file, &place, &groups))
}

/// The one hunk with `text` in a changed line.
fn the_hunk(diff: &FileDiff, text: &str) -> Result<Range<usize>> {
    let holds = |hunk: &&Range<usize>| {
        diff.lines[(*hunk).clone()].iter().any(|line| line.changed() && line.text.contains(text))
    };
    let found: Vec<_> = diff.hunks.iter().filter(holds).collect();
    match found[..] {
        [one] => Ok(one.clone()),
        [] => bail!("no hunk of {} changes a line that contains `{text}`", diff.path),
        _ => bail!("{} hunks of {} contain `{text}`; quote more", found.len(), diff.path),
    }
}

/// What a hunk lies in, such as `fn main`, read off the newer file where it can be.
fn place(diff: &FileDiff, piece: &Range<usize>) -> String {
    let lines = &diff.lines[piece.clone()];
    let changed = lines.iter().find(|line| line.changed());
    let found = match changed.and_then(|line| line.new) {
        Some(number) => enclosing(&diff.new_text.lines().collect::<Vec<_>>(), number - 1),
        None => changed
            .and_then(|line| line.old)
            .and_then(|number| enclosing(&diff.old_text.lines().collect::<Vec<_>>(), number - 1)),
    };
    found.map(|line| format!("in {line}")).unwrap_or_default()
}

fn row(line: &Line, old_html: &[String], new_html: &[String]) -> Row {
    let (sign, number, html) = match (line.old, line.new) {
        (Some(old), None) => ('-', old, &old_html[old - 1]),
        (old, new) => {
            let new = new.unwrap_or(1);
            (if old.is_some() { ' ' } else { '+' }, new, &new_html[new - 1])
        }
    };
    Row { sign, number, html: html.clone() }
}

/// `{{#stepcode STEP FILE}}` shows a piece of a step's file: `item="fn finish"`, which
/// `in="impl Buckets"` narrows, and `from`/`to` inside it. Its lines count as explained.
pub fn stepcode(ask: &Directive, steps: &[Step], explained: &mut Explained) -> Result<String> {
    let [name, path] = ask.shape(["step", "file"], &["in", "item", "from", "to"])?;
    let step = &steps[position(steps, name)?];
    let text = step.files.get(path).with_context(|| format!("{name} has no file {path}"))?;
    let piece = pick(text, ask)?;
    piece.clone().for_each(|i| explained.show(name, path, Side::New, i + 1));
    Ok(excerpt(&format!("{name}  {path}"), text, path, piece))
}

/// `{{#code FILE}}` shows a piece of any file of the repository, chosen as `stepcode` does.
pub fn code(ask: &Directive, root: &Path) -> Result<String> {
    let [path] = ask.shape(["file"], &["in", "item", "from", "to"])?;
    let text =
        std::fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"))?;
    let piece = pick(&text, ask)?;
    Ok(excerpt(path, &text, path, piece))
}

/// The lines that the directive's anchors choose.
fn pick(text: &str, ask: &Directive) -> Result<Range<usize>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut within = 0..lines.len();
    if let Some(outer) = ask.named("in") {
        within = item(&lines, within, outer)?;
    }
    if let Some(name) = ask.named("item") {
        within = item(&lines, within, name)?;
    }
    let within = span(&lines, within, ask.named("from"), ask.named("to"))?;
    not_too_long(&within, MAX_CODE)?;
    Ok(within)
}

fn excerpt(title: &str, text: &str, path: &str, piece: Range<usize>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let place = enclosing(&lines, piece.start).map(|line| format!("in {line}"));
    let html = colours(text, path);
    // Lines of an inner item start at the margin.
    let shown = || lines[piece.clone()].iter().filter(|line| !line.trim().is_empty());
    let indent = shown().map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let row = |i: usize| Row {
        sign: ' ',
        number: i + 1,
        html: html[i].strip_prefix(&" ".repeat(indent)).unwrap_or(&html[i]).to_owned(),
    };
    figure("code", title, &place.unwrap_or_default(), &[piece.clone().map(row).collect()])
}

fn colours(text: &str, path: &str) -> Vec<String> {
    coloured(text, Language::of(path))
}

fn not_too_long(piece: &Range<usize>, limit: usize) -> Result<()> {
    if piece.len() > limit {
        bail!("{} lines at once; show at most {limit}, with from=\"…\" to=\"…\"", piece.len());
    }
    Ok(())
}

/// Text that occurs once in `text` is a sound anchor; used by recorded runs as well.
pub fn part<'a>(text: &'a str, ask: &Directive) -> Result<Vec<&'a str>> {
    let lines: Vec<&str> = text.lines().collect();
    if let Some(only) = ask.named("line") {
        return Ok(vec![lines[unique(&lines, 0..lines.len(), only)?]]);
    }
    let range = span(&lines, 0..lines.len(), ask.named("from"), ask.named("to"))?;
    Ok(lines[range].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::tests::step;

    const OLD: &str = "fn a() {\n    1;\n}\n\n\nfn b() {\n    2;\n}\n";
    const NEW: &str = "fn a() {\n    9;\n}\n\n\nfn b() {\n    7;\n    9;\n}\n";

    fn show(line: &str) -> (Result<String>, Vec<String>) {
        let steps = [step("step01", &[("x.rs", OLD)]), step("step02", &[("x.rs", NEW)])];
        let mut explained = Explained::default();
        let ask = Directive::parse(line).unwrap().unwrap();
        let html = match ask.name.as_str() {
            "stepdiff" => stepdiff(&ask, &steps, &mut explained),
            _ => stepcode(&ask, &steps, &mut explained),
        };
        (html, explained.missing(&steps[0], &steps[1]))
    }

    #[test]
    fn a_whole_diff_explains_everything() {
        let (html, missing) = show("{{#stepdiff step01 step02 x.rs}}");
        assert_eq!(html.unwrap().matches("row add").count(), 3);
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn one_hunk_explains_itself_alone() {
        let (html, missing) = show("{{#stepdiff step01 step02 x.rs hunk=\"7;\"}}");
        assert!(html.unwrap().contains("in fn b"));
        assert_eq!(missing.len(), 2);
        assert!(missing[1].starts_with("step02/x.rs:2"), "{missing:?}");
    }

    #[test]
    fn stale_and_ambiguous_hunks_are_errors() {
        let none = show("{{#stepdiff step01 step02 x.rs hunk=\"8;\"}}").0.unwrap_err();
        assert!(none.to_string().starts_with("no hunk"));
        let two = show("{{#stepdiff step01 step02 x.rs hunk=\"9;\"}}").0.unwrap_err();
        assert!(two.to_string().starts_with("2 hunks"));
        assert!(show("{{#stepdiff step01 step07 x.rs}}").0.is_err());
    }

    #[test]
    fn an_item_of_the_new_step_counts_as_explained() {
        let (html, missing) = show("{{#stepcode step02 x.rs item=\"fn b\"}}");
        assert_eq!(html.unwrap().matches("class=\"row\"").count(), 4);
        // The two lines of `fn a` are left, and the removed line of `fn b`.
        assert_eq!(missing.len(), 3, "{missing:?}");
        assert!(missing.iter().all(|line| !line.starts_with("step02/x.rs:7")));
    }
}
