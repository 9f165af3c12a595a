//! Takes sentences out of Markdown without breaking code, formulas or emphasis.

/// The sentences of a paragraph.
pub fn sentences(paragraph: &str) -> Vec<String> {
    let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut found, mut start) = (Vec::new(), 0);
    let (mut code, mut formula, mut strong, mut brackets) = (false, false, false, 0_i32);
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    for (k, &(at, c)) in chars.iter().enumerate() {
        match c {
            '`' => code = !code,
            '$' if !code => formula = !formula,
            '*' if !code && !formula => strong = !strong,
            '(' | '[' if !code => brackets += 1,
            ')' | ']' if !code => brackets -= 1,
            _ => {}
        }
        // `**` counts twice, so `strong` is what `*` says.
        let open = code || formula || strong || brackets > 0;
        let next = chars.get(k + 1).map(|&(_, c)| c);
        let ends = matches!(c, '.' | '?' | '!' | '*' | ')' | '"')
            && text[start..=at].trim_end_matches(['*', ')', '"']).ends_with(['.', '?', '!']);
        if ends && !open && next == Some(' ') && begins(&text[at + c.len_utf8() + 1..]) {
            if abbreviates(&text[start..=at]) {
                continue;
            }
            found.push(text[start..=at].trim().to_owned());
            start = at + c.len_utf8();
        }
    }
    found.push(text[start..].trim().to_owned());
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// Whether a sentence can begin like this.
fn begins(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_uppercase() || "`$*\"([1234567890−".contains(c))
}

/// Whether the stop at the end is that of an abbreviation.
fn abbreviates(text: &str) -> bool {
    ["al.", "e.g.", "i.e.", "vs.", "cf."].iter().any(|short| text.ends_with(short))
}

/// What a listing's slide says above it: the last sentence of the paragraph, and the one before if
/// both are short.
pub fn last(paragraph: &str) -> String {
    let found = sentences(paragraph);
    let Some((last, before)) = found.split_last() else { return String::new() };
    match before.last() {
        Some(one) if last.len() < 110 && one.len() + last.len() < 240 => format!("{one} {last}"),
        _ => last.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_end_where_they_end() {
        let text = "With `a. B` and $x. Y$ (Li et al., *An A. B*, 2020) it\nfits. **Bold.** It is \
                    *one.* And 2.5 is not an end? 3 is.";
        let found = sentences(text);
        assert_eq!(found.len(), 5, "{found:#?}");
        assert_eq!(found[1], "**Bold.**");
        assert_eq!(found[4], "3 is.");
    }

    #[test]
    fn a_short_last_sentence_brings_the_one_before() {
        assert_eq!(last("A long one here. It is short:"), "A long one here. It is short:");
        let long = format!("First. W{} word.", "word ".repeat(50));
        assert!(!last(&long).contains("First"));
    }
}
