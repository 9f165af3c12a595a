//! A small lexer for Rust and TOML: enough to colour a listing and to match braces.

use std::ops::Range;

/// What a piece of source is; `Plain` is everything that needs no colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Comment,
    Text,
    Number,
    Keyword,
    Type,
    Definition,
    Attribute,
    Open,
    Close,
}

/// The languages listings are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    Toml,
    Other,
}

impl Language {
    pub fn of(path: &str) -> Self {
        match path.rsplit('.').next() {
            Some("rs") => Self::Rust,
            Some("toml") => Self::Toml,
            _ => Self::Other,
        }
    }
}

const KEYWORDS: &[&str] = &[
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern",
    "false", "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "type", "unsafe", "use",
    "where", "while",
];

/// Splits `source` into pieces that cover it without gaps.
pub fn lex(source: &str, language: Language) -> Vec<(Kind, Range<usize>)> {
    if language == Language::Other {
        return vec![(Kind::Plain, 0..source.len())];
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut after_fn = false;
    while at < source.len() {
        let (kind, length) = next(&source[at..], language, after_fn);
        if !source[at..at + length].trim().is_empty() {
            after_fn = &source[at..at + length] == "fn";
        }
        pieces.push((kind, at..at + length));
        at += length;
    }
    pieces
}

/// The kind and length in bytes of the piece that `rest` starts with.
fn next(rest: &str, language: Language, after_fn: bool) -> (Kind, usize) {
    let first = rest.chars().next().unwrap_or(' ');
    let rust = language == Language::Rust;
    let line = || rest.find('\n').unwrap_or(rest.len());
    match first {
        '/' if rust && rest.starts_with("//") => (Kind::Comment, line()),
        '/' if rust && rest.starts_with("/*") => (Kind::Comment, block_comment(rest)),
        '#' if !rust => (Kind::Comment, line()),
        '#' if rest.starts_with("#[") || rest.starts_with("#![") => {
            (Kind::Attribute, attribute(rest))
        }
        '"' => (Kind::Text, quoted(rest, 0)),
        'r' | 'b' | 'c' if rust && prefixed_string(rest).is_some() => {
            (Kind::Text, prefixed_string(rest).unwrap_or(1))
        }
        '\'' if rust => quote(rest),
        '\'' => (Kind::Text, rest[1..].find('\'').map_or(1, |i| i + 2)),
        '{' | '(' | '[' => (Kind::Open, 1),
        '}' | ')' | ']' => (Kind::Close, 1),
        '0'..='9' => (Kind::Number, number(rest)),
        c if c.is_alphabetic() || c == '_' => {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let word = &rest[..length.unwrap_or(rest.len())];
            let kind = match word {
                _ if !rust => Kind::Plain,
                _ if after_fn => Kind::Definition,
                _ if KEYWORDS.contains(&word) => Kind::Keyword,
                _ if c.is_uppercase() => Kind::Type,
                _ => Kind::Plain,
            };
            (kind, word.len())
        }
        c => (Kind::Plain, c.len_utf8()),
    }
}

/// Length of an attribute: to the bracket that closes it. Brackets in its strings do not.
fn attribute(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(c) = rest[at..].chars().next() {
        match c {
            '"' => {
                at += quoted(&rest[at..], 0);
                continue;
            }
            '[' => depth += 1,
            ']' if depth == 1 => return at + 1,
            ']' => depth -= 1,
            _ => {}
        }
        at += c.len_utf8();
    }
    rest.len()
}

/// Length of a string that opens with a quote at `start`, its escapes included.
fn quoted(rest: &str, start: usize) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip_while(|(i, _)| *i <= start) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Length of `r"…"`, `r#"…"#`, `b"…"` and their kin; `None` where `rest` starts with a name.
fn prefixed_string(rest: &str) -> Option<usize> {
    let open = rest.find('"')?;
    let prefix = rest[..open].trim_end_matches('#');
    let hashes = open - prefix.len();
    match prefix {
        "r" | "br" | "cr" => {
            let close = format!("\"{}", "#".repeat(hashes));
            Some(rest[open + 1..].find(&close).map_or(rest.len(), |i| open + 1 + i + close.len()))
        }
        "b" | "c" if hashes == 0 => Some(quoted(rest, open)),
        _ => None,
    }
}

/// A character such as `'x'` or `'\n'`, or a lifetime such as `'a`.
fn quote(rest: &str) -> (Kind, usize) {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((after, _))) => {
            let from = after + rest[after..].chars().next().map_or(1, char::len_utf8);
            (Kind::Text, rest[from..].find('\'').map_or(rest.len(), |i| from + i + 1))
        }
        (Some(_), Some((close, '\''))) => (Kind::Text, close + 1),
        _ => {
            let name = rest[1..].find(|c: char| !c.is_alphanumeric() && c != '_');
            (Kind::Type, 1 + name.unwrap_or(rest.len() - 1))
        }
    }
}

fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let part = bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_';
        // `1.5` is one number; `0..n` and `1.max(x)` end before the dot.
        let point = bytes[i] == b'.' && bytes.get(i + 1).is_some_and(u8::is_ascii_digit);
        let sign = matches!(bytes[i], b'-' | b'+') && matches!(bytes[i - 1], b'e' | b'E');
        if !(part || point || sign) {
            break;
        }
        i += 1;
    }
    i
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<(Kind, &str)> {
        let pieces = lex(source, Language::Rust).into_iter();
        let pieces = pieces.map(|(kind, range)| (kind, &source[range]));
        pieces.filter(|(kind, _)| *kind != Kind::Plain).collect()
    }

    #[test]
    fn braces_in_text_and_comments_are_not_braces() {
        let source = "fn f<'a>() { '{'; \"}\\\"}\"; r#\"}\"}\"#; b'\\''; /* } /* } */ */ } // }";
        let open = kinds(source).iter().filter(|(kind, _)| *kind == Kind::Open).count();
        let close = kinds(source).iter().filter(|(kind, _)| *kind == Kind::Close).count();
        assert_eq!((open, close), (2, 2));
    }

    #[test]
    fn a_bracket_in_the_text_of_an_attribute_does_not_end_it() {
        let source = "#[command(heading = \"[parallel]\")]\nstruct A;";
        let pieces = kinds(source);
        assert_eq!(pieces[0], (Kind::Attribute, source.lines().next().unwrap()));
        assert_eq!(pieces[1..], [(Kind::Keyword, "struct"), (Kind::Type, "A")]);
        let nested = "#[cfg(any(a = [1]))]";
        assert_eq!(kinds(nested), [(Kind::Attribute, nested)]);
    }

    #[test]
    fn numbers_end_where_ranges_begin() {
        assert_eq!(
            kinds("0..1e-8 1.5f64"),
            [(Kind::Number, "0"), (Kind::Number, "1e-8"), (Kind::Number, "1.5f64")]
        );
    }

    #[test]
    fn pieces_cover_this_file() {
        let source = include_str!("lex.rs");
        let pieces = lex(source, Language::Rust);
        let rebuilt: String = pieces.iter().map(|(_, range)| &source[range.clone()]).collect();
        assert_eq!(rebuilt, source);
        let named = pieces.iter().filter(|(kind, _)| *kind == Kind::Definition);
        assert!(named.map(|(_, range)| &source[range.clone()]).any(|name| name == "block_comment"));
    }
}
