//! Whether a match of a pattern may run across a place between two characters.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Assertions about the one character that follows. To leave them out lets a pattern match
/// more, never less.
const LOOKS_AT_ONE: [&str; 4] = [r"(?!\S)", r"(?!\s)", r"(?=\S)", r"(?=\s)"];

/// All that a pattern of a tokenizer.json can match, and maybe more.
pub(super) struct Pattern(Hir);

impl Pattern {
    /// `None` where Oniguruma may understand a pattern otherwise than this parser does, or where a
    /// match depends on more than the text from its beginning to one character past its end: then
    /// nothing is known.
    pub fn read(pattern: &str) -> Option<Self> {
        let free =
            LOOKS_AT_ONE.iter().fold(pattern.to_owned(), |text, look| text.replace(look, ""));
        let differs = ["--", "~~", "[:", "{,"].iter().any(|syntax| free.contains(syntax))
            || (free.contains("(?i") && !free.is_ascii()) // folds one character into two
            || !groups_are_plain(&free)
            || !properties_are_plain(&free);
        if differs {
            return None;
        }
        let hir = regex_syntax::parse(&free).ok()?;
        // `$` looks at what follows; `^`, `\A` and `\b` look back.
        hir.properties().look_set().iter().all(|look| look == Look::End).then_some(Self(hir))
    }

    /// The pattern that matches just this text.
    pub fn literal(text: &str) -> Self {
        Self(Hir::literal(text.as_bytes()))
    }

    /// Whether a match, or an attempt at one, may take `y` directly after `x`.
    pub fn joins(&self, x: char, y: char) -> bool {
        Reach::of(&self.0, x, y).joins
    }
}

/// Only `(`, `(?:` and `(?i:` mean the same to both parsers.
fn groups_are_plain(pattern: &str) -> bool {
    pattern.split("(?").skip(1).all(|rest| rest.starts_with(':') || rest.starts_with("i:"))
}

/// Only general categories (`\p{L}`, `\p{Nd}`) and `\p{Han}` mean the same to both parsers.
fn properties_are_plain(pattern: &str) -> bool {
    let mut escapes = pattern.split(r"\p").skip(1).chain(pattern.split(r"\P").skip(1));
    escapes.all(|rest| {
        let name = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
        name.is_some_and(|name| name.len() <= 2 || name == "Han")
    })
}

/// What part of a pattern can match.
struct Reach {
    /// Nothing.
    empty: bool,
    /// A text that begins with `y`.
    begins: bool,
    /// A text that ends in `x`.
    ends: bool,
    /// A text that has `y` directly after `x`.
    joins: bool,
}

impl Reach {
    const NOTHING: Self = Self { empty: true, begins: false, ends: false, joins: false };

    fn of(hir: &Hir, x: char, y: char) -> Self {
        let of = |hir: &Hir| Self::of(hir, x, y);
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Self::NOTHING,
            HirKind::Literal(literal) => {
                let text: Vec<char> = String::from_utf8_lossy(&literal.0).chars().collect();
                Self {
                    empty: text.is_empty(),
                    begins: text.first() == Some(&y),
                    ends: text.last() == Some(&x),
                    joins: text.windows(2).any(|pair| pair == [x, y]),
                }
            }
            HirKind::Class(class) => {
                let (begins, ends) = (contains(class, y), contains(class, x));
                Self { empty: false, begins, ends, joins: false }
            }
            HirKind::Repetition(repetition) => {
                let once = of(&repetition.sub);
                let again = repetition.max.is_none_or(|most| most > 1) && once.ends && once.begins;
                let empty = once.empty || repetition.min == 0;
                Self { empty, joins: once.joins || again, ..once }
            }
            HirKind::Capture(capture) => of(&capture.sub),
            HirKind::Concat(parts) => parts.iter().map(of).fold(Self::NOTHING, Self::then),
            HirKind::Alternation(parts) => {
                parts.iter().map(of).fold(Self { empty: false, ..Self::NOTHING }, |a, b| Self {
                    empty: a.empty || b.empty,
                    begins: a.begins || b.begins,
                    ends: a.ends || b.ends,
                    joins: a.joins || b.joins,
                })
            }
        }
    }

    fn then(self, next: Self) -> Self {
        Self {
            empty: self.empty && next.empty,
            begins: self.begins || (self.empty && next.begins),
            ends: next.ends || (next.empty && self.ends),
            joins: self.joins || next.joins || (self.ends && next.begins),
        }
    }
}

fn contains(class: &Class, c: char) -> bool {
    match class {
        Class::Unicode(class) => class.iter().any(|r| (r.start()..=r.end()).contains(&c)),
        Class::Bytes(class) => {
            class.iter().any(|r| (u32::from(r.start())..=u32::from(r.end())).contains(&(c as u32)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_are_those_that_a_match_can_make() {
        let words = r" ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        for (pattern, pair, joins) in [
            (words, "a ", false),
            (words, " a", true),
            (words, "ab", true),
            (words, "a\n", false),
            (words, ".\n", true),
            (words, "\na", false),
            (words, "\n\n", true),
            (words, "  ", true),
            (words, "12", true),
            (words, "1a", false),
            (r"\p{N}", "12", false),
            (r"\p{N}{2}?", "12", true),
            (r"(?:a|b?)c", "ac", true),
            (r"a(b?)c", "ac", true),
            (r"(?i:'LL)", "'l", true),
            (r"(?i:'LL)", "l'", false),
            (r"(?:ab)+", "ba", true),
            (r"(?:ab)?", "ba", false),
        ] {
            let [x, y] = pair.chars().collect::<Vec<_>>()[..] else { unreachable!() };
            assert_eq!(Pattern::read(pattern).unwrap().joins(x, y), joins, "{pattern} {pair:?}");
        }
    }

    #[test]
    fn of_a_pattern_that_looks_back_or_far_ahead_nothing_is_known() {
        for pattern in [
            r"^a",
            r"\Aa",
            r"\ba",
            r"(?<=a)b",
            r"(?<!a)b",
            r"a(?=.*z)",
            r"(?m:.)",
            r"(?>a)",
            r"(a)\1",
            r"\h",
            r"\X",
            r"\R",
            r"\Ga",
            r"[[:alpha:]]",
            r"\p{Punct}",
            r"[a--b]",
            r"(?i:straße)",
            r"a{,3}",
            r"\p{^L}",
        ] {
            assert!(Pattern::read(pattern).is_none(), "{pattern}");
        }
    }
}
