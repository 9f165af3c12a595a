//! Finds the lines an anchor names. Anchors are text or item names, never line numbers, so one
//! that has gone stale is an error and not a wrong listing.

use std::ops::Range;

use anyhow::{Result, bail};

use crate::lex::{Kind, Language, lex};

/// The only line in `within` that contains `text`.
///
/// # Errors
/// When no line does, or more than one.
pub fn unique(lines: &[&str], within: Range<usize>, text: &str) -> Result<usize> {
    let found: Vec<usize> = within.filter(|&i| lines[i].contains(text)).collect();
    match found[..] {
        [one] => Ok(one),
        [] => bail!("no line contains `{text}`"),
        _ => bail!("{} lines contain `{text}`; quote more of the one you mean", found.len()),
    }
}

/// The part of `within` from the line that contains `from` to the next one that contains `to`,
/// both shown. Without `from` it starts at the start, without `to` it ends at the end.
///
/// # Errors
/// When `from` is not unique, or `to` does not follow it.
pub fn span(
    lines: &[&str],
    within: Range<usize>,
    from: Option<&str>,
    to: Option<&str>,
) -> Result<Range<usize>> {
    let start = match from {
        Some(text) => unique(lines, within.clone(), text)?,
        None => within.start,
    };
    let Some(to) = to else { return Ok(start..within.end) };
    match (start..within.end).find(|&i| lines[i].contains(to)) {
        Some(end) => Ok(start..end + 1),
        None => bail!("no line from there on contains `{to}`"),
    }
}

/// The lines of the Rust item called `name`, such as `fn finish` or `struct Bucket`, with the
/// comments and attributes above it, inside `within`.
///
/// # Errors
/// When there is no such item, or more than one.
pub fn item(lines: &[&str], within: Range<usize>, name: &str) -> Result<Range<usize>> {
    let found: Vec<usize> = within.clone().filter(|&i| declares(lines[i], name)).collect();
    let declared = match found[..] {
        [one] => one,
        [] => bail!("there is no item `{name}`"),
        _ => bail!("{} items are called `{name}`; narrow it with in=\"impl …\"", found.len()),
    };
    let attached = |line: &str| {
        let line = line.trim_start();
        line.starts_with("///") || line.starts_with("#[")
    };
    let above = (within.start..declared).rev().take_while(|&i| attached(lines[i])).count();
    Ok(declared - above..declared + item_length(&lines[declared..within.end]))
}

/// Whether `line` declares `name`, whatever its visibility and qualifiers.
fn declares(line: &str, name: &str) -> bool {
    let mut rest = line.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix(name) {
            return !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        }
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let qualifier = matches!(word, "pub" | "const" | "async" | "unsafe" | "extern" | "\"C\"");
        if !qualifier && !word.starts_with("pub(") {
            return false;
        }
        rest = after;
    }
}

/// How many of `lines` the item takes that starts at their first: to its closing brace, or to its
/// semicolon where no brace comes first.
fn item_length(lines: &[&str]) -> usize {
    let source = lines.join("\n");
    let mut depth = 0_usize;
    let mut end = source.len();
    for (kind, range) in lex(&source, Language::Rust) {
        let piece = &source[range.clone()];
        match kind {
            Kind::Open => depth += 1,
            Kind::Close => {
                depth = depth.saturating_sub(1);
                if depth == 0 && piece == "}" {
                    end = range.end;
                    break;
                }
            }
            Kind::Plain if depth == 0 && piece == ";" => {
                end = range.end;
                break;
            }
            _ => {}
        }
    }
    source[..end].lines().count()
}

/// The function, type or module around the line `at`, as declared but without a
/// function's arguments.
pub fn enclosing<'a>(lines: &[&'a str], at: usize) -> Option<&'a str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut limit = lines[at..].iter().find(|line| !line.trim().is_empty()).map(|l| indent(l))?;
    // The last line of a long signature, `) -> T {`, stands where its first does.
    let opens = |line: &&&str| !line.trim().is_empty() && !line.trim().starts_with(')');
    for line in lines[..at].iter().rev().filter(opens) {
        if indent(line) < limit {
            limit = indent(line);
            let words = ["fn", "impl", "struct", "enum", "trait", "mod"];
            if words.iter().any(|word| declares(line, word)) {
                let line = line.trim().trim_end_matches(['{', '(', ' ']);
                // `pub(crate)` has a bracket of its own, before the name.
                let name = line.find("fn ");
                let end = name.and_then(|at| line[at..].find(['(', '<']).map(|end| at + end));
                return Some(&line[..end.unwrap_or(line.len())]);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
/// A pair.
#[derive(Clone)]
pub struct Pair { a: u8 }
impl Pair {
    pub fn new(a: [u8; 2]) -> Self {
        let text = \"}\";
        Pair { a: a[0] }
    }
}
pub(crate) const NEW: u8 = 1;
fn news() {}
";

    fn find(name: &str) -> Result<Range<usize>> {
        let lines: Vec<&str> = SOURCE.lines().collect();
        item(&lines, 0..lines.len(), name)
    }

    #[test]
    fn items_end_at_their_own_brace() {
        assert_eq!(find("struct Pair").unwrap(), 0..3);
        assert_eq!(find("fn new").unwrap(), 4..8);
        assert_eq!(find("const NEW").unwrap(), 9..10);
        assert_eq!(find("impl Pair").unwrap(), 3..9);
    }

    #[test]
    fn stale_anchors_are_errors() {
        let lines = ["one two", "two", "three"];
        assert!(unique(&lines, 0..3, "four").unwrap_err().to_string().contains("no line"));
        assert!(unique(&lines, 0..3, "two").unwrap_err().to_string().contains("2 lines"));
        assert_eq!(unique(&lines, 0..3, "three").unwrap(), 2);
        assert!(span(&lines, 0..3, Some("three"), Some("one")).is_err());
        assert!(find("fn old").is_err());
    }

    #[test]
    fn the_place_of_a_line_is_the_function_around_it() {
        let lines: Vec<&str> = SOURCE.lines().collect();
        assert_eq!(enclosing(&lines, 6), Some("pub fn new"));
        assert_eq!(enclosing(&lines, 4), Some("impl Pair"));
        assert_eq!(enclosing(&lines, 9), None);
        let long =
            ["impl<T> Pair<T> {", "    fn long(", "        a: u8,", "    ) -> u8 {", "        a"];
        assert_eq!(enclosing(&long, 4), Some("fn long"));
        let private = ["pub(crate) fn draw(a: u8) {", "    a"];
        assert_eq!(enclosing(&private, 1), Some("pub(crate) fn draw"));
        assert_eq!(enclosing(&long, 1), Some("impl<T> Pair<T>"));
    }
}
