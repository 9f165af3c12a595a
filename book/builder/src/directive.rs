//! Parses the directives of a chapter: `{{#stepdiff step02 step03 src/model.rs hunk="…"}}`, each on
//! a line of its own.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// A directive: its name, its plain arguments and its named ones.
#[derive(Debug, PartialEq)]
pub struct Directive {
    pub name: String,
    pub arguments: Vec<String>,
    named: BTreeMap<String, String>,
}

impl Directive {
    /// The directive that `line` is, or `None` where it is ordinary text.
    ///
    /// # Errors
    /// When it starts like one but cannot be read as one.
    pub fn parse(line: &str) -> Result<Option<Self>> {
        let line = line.trim();
        let Some(rest) = line.strip_prefix("{{#") else { return Ok(None) };
        let Some(mut rest) = rest.strip_suffix("}}") else {
            bail!("a directive stands on a line of its own and ends with }}}}");
        };
        let (mut words, mut named) = (Vec::new(), BTreeMap::new());
        while !rest.trim_start().is_empty() {
            rest = rest.trim_start();
            let end = rest.find([' ', '=']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let Some(value) = after.strip_prefix("=\"") else {
                words.push(word.to_owned());
                rest = after.strip_prefix('=').unwrap_or(after);
                continue;
            };
            let (value, after) = unquoted(value)?;
            if named.insert(word.to_owned(), value).is_some() {
                bail!("`{word}` is given twice");
            }
            rest = after;
        }
        if words.is_empty() {
            bail!("a directive needs a name");
        }
        let name = words.remove(0);
        Ok(Some(Self { name, arguments: words, named }))
    }

    /// A named argument.
    pub fn named(&self, key: &str) -> Option<&str> {
        self.named.get(key).map(String::as_str)
    }

    /// Its plain arguments, when they are as many as `expected` has names and no named argument
    /// lies outside `keys`.
    ///
    /// # Errors
    /// Otherwise; the message shows how the directive is written.
    pub fn shape<const N: usize>(&self, expected: [&str; N], keys: &[&str]) -> Result<[&str; N]> {
        if let Some(key) = self.named.keys().find(|key| !keys.contains(&key.as_str())) {
            bail!("{} has no argument `{key}` (it has: {})", self.name, keys.join(", "));
        }
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        match arguments.try_into() {
            Ok(arguments) => Ok(arguments),
            Err(_) => bail!("write {{{{#{} {}}}}}", self.name, expected.join(" ").to_uppercase()),
        }
    }
}

/// The text up to the closing quote, where `\"` stands for a quote, and what follows it.
fn unquoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[i + 1..])),
            '\\' if text[i + 1..].starts_with('"') => {
                value.push('"');
                chars.next();
            }
            c => value.push(c),
        }
    }
    bail!("a quote is never closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_words_and_quoted_values() {
        let directive =
            Directive::parse(r#"{{#stepdiff step01 step02 src/a.rs hunk="say(\"a = b\")"}}"#);
        let directive = directive.unwrap().unwrap();
        assert_eq!(directive.name, "stepdiff");
        assert_eq!(directive.arguments, ["step01", "step02", "src/a.rs"]);
        assert_eq!(directive.named("hunk"), Some("say(\"a = b\")"));
    }

    #[test]
    fn mistakes_are_errors() {
        assert!(Directive::parse("{{#code a.rs").is_err());
        assert!(Directive::parse("{{#code a.rs from=\"x}}").is_err());
        let directive = Directive::parse("{{#code a.rs form=\"x\"}}").unwrap().unwrap();
        let error = directive.shape(["file"], &["from"]).unwrap_err();
        assert_eq!(error.to_string(), "code has no argument `form` (it has: from)");
        assert!(directive.shape(["file", "other"], &["form"]).is_err());
        assert_eq!(Directive::parse("plain text").unwrap(), None);
    }
}
