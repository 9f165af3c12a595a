//! What the parts of a tokenizer do to a text before its model sees it, as far as it matters to the
//! place between two characters.

use super::Pattern;
use serde_json::Value;
use tokenizers::{NormalizedString, Normalizer};

/// What ByteLevel splits with where it is asked to.
const GPT2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Letters that are one character in every normal form that composes, with nothing before or behind
/// that would join them: CJK ideographs, Hangul, kana, Cyrillic, Arabic, Devanagari.
const LETTERS: [(char, char); 7] = [
    ('\u{4E00}', '\u{9FA5}'),
    ('\u{AC00}', '\u{D7A3}'),
    ('\u{3041}', '\u{3096}'),
    ('\u{30A1}', '\u{30FA}'),
    ('\u{0410}', '\u{044F}'),
    ('\u{0621}', '\u{063A}'),
    ('\u{0905}', '\u{0939}'),
];

pub(super) struct Pipeline {
    added: Vec<Added>,
    /// Characters that a normalizer or Metaspace writes otherwise, one for one.
    replaced: Vec<(char, char)>,
    lowercase: bool,
    /// Whether a normalizer leaves nothing but ASCII as it is.
    ascii: bool,
    patterns: Vec<Pattern>,
    /// Whether a piece that does not begin with a space gets one.
    prefixes: bool,
    /// Whether the model sees these characters, and not their bytes.
    pub keeps_characters: bool,
}

struct Added {
    /// As it stands in the text, or in the normalized one.
    content: String,
    strips: bool,
}

impl Pipeline {
    pub fn read(tokenizer: &tokenizers::Tokenizer) -> Option<Self> {
        let mut pipeline = Self {
            added: Vec::new(),
            replaced: Vec::new(),
            lowercase: false,
            ascii: false,
            patterns: Vec::new(),
            prefixes: false,
            keeps_characters: true,
        };
        let normalizer = tokenizer.get_normalizer();
        pipeline.normalizer(&serde_json::to_value(normalizer).ok()?)?;
        let stages = serde_json::to_value(tokenizer.get_pre_tokenizer()).ok()?;
        let flat = flatten(&stages, "pretokenizers")?;
        for (i, stage) in flat.iter().enumerate() {
            pipeline.stage(stage, i + 1 == flat.len())?;
        }
        for token in tokenizer.get_added_vocabulary().get_added_tokens_decoder().values() {
            let strips = token.lstrip || token.rstrip || token.single_word;
            let mut contents = vec![token.content.clone()];
            if let (true, Some(normalizer)) = (token.normalized, normalizer) {
                let mut content = NormalizedString::from(token.content.as_str());
                normalizer.normalize(&mut content).ok()?;
                contents.push(content.get().to_owned());
            }
            pipeline.added.extend(contents.into_iter().map(|content| Added { content, strips }));
        }
        Some(pipeline)
    }

    fn normalizer(&mut self, described: &Value) -> Option<()> {
        for part in flatten(described, "normalizers")? {
            match part["type"].as_str()? {
                // At the beginning of a text, which is another place.
                "NFC" | "Prepend" => {}
                "NFD" | "NFKC" | "NFKD" | "StripAccents" => self.ascii = true,
                "Lowercase" => (self.ascii, self.lowercase) = (true, true),
                "BertNormalizer" => {
                    self.ascii = true;
                    self.lowercase |= part["lowercase"].as_bool()?;
                    self.replaced.push(('\n', ' '));
                }
                "Replace" => {
                    let (from, to) =
                        (part["pattern"]["String"].as_str()?, part["content"].as_str()?);
                    self.replaced.push((only(from)?, only(to)?));
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn stage(&mut self, stage: &Value, is_last: bool) -> Option<()> {
        match stage["type"].as_str()? {
            // Each of these looks at one character at a time.
            "Digits" | "Punctuation" | "BertPreTokenizer" | "WhitespaceSplit"
            | "CharDelimiterSplit" => {}
            "Whitespace" => self.patterns.push(Pattern::read(r"\w+|[^\w\s]+")?),
            "ByteLevel" if is_last => {
                self.keeps_characters = false;
                self.prefixes |= stage["add_prefix_space"].as_bool()?;
                if stage["use_regex"].as_bool()? {
                    self.patterns.push(Pattern::read(GPT2)?);
                }
            }
            "Metaspace" if is_last => {
                self.prefixes |= stage["prepend_scheme"] != "never";
                self.replaced.push((' ', only(stage["replacement"].as_str()?)?));
            }
            "Split" => {
                let (pattern, behavior) = (&stage["pattern"], stage["behavior"].as_str()?);
                match pattern["String"].as_str() {
                    Some(text) if only(text).is_some() => {}
                    // Others put matches together, which would have to be followed further.
                    _ if !["Isolated", "Removed"].contains(&behavior) => return None,
                    Some(text) => self.patterns.push(Pattern::literal(text)),
                    None => self.patterns.push(Pattern::read(pattern["Regex"].as_str()?)?),
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Whether all parts take this character for the same, and leave it one.
    pub fn is_plain(&self, c: char) -> bool {
        let letter = || LETTERS.iter().any(|&(first, last)| (first..=last).contains(&c));
        c.is_ascii_graphic() || c == ' ' || c == '\n' || (!self.ascii && letter())
    }

    /// The two plain characters as the model sees them, if nothing runs across the
    /// place between them.
    pub fn open(&self, x: char, y: char) -> Option<(char, char)> {
        let (from_x, from_y) = (self.normalized(x), self.normalized(y));
        let apart = self
            .added
            .iter()
            .all(|added| [(x, y), (from_x, from_y)].into_iter().all(|(x, y)| added.is_apart(x, y)));
        // Patterns see what is replaced either before or after them: neither may join the two.
        let joined = self.patterns.iter().any(|pattern| {
            [(x, y), (from_x, from_y)].into_iter().any(|(x, y)| pattern.joins(x, y))
        });
        (apart && !joined && (!self.prefixes || y == ' ')).then_some((from_x, from_y))
    }

    fn normalized(&self, c: char) -> char {
        let c = if self.lowercase { c.to_ascii_lowercase() } else { c };
        self.replaced.iter().fold(c, |c, &(from, to)| if c == from { to } else { c })
    }
}

impl Added {
    /// Whether the token, with the spaces that it takes along and the letters that it must not
    /// touch, neither runs across the place between `x` and `y` nor begins or ends there.
    fn is_apart(&self, x: char, y: char) -> bool {
        let Self { content, strips } = self;
        let has = content.chars().zip(content.chars().skip(1)).any(|pair| pair == (x, y));
        let touches = content.ends_with(x) || content.starts_with(y);
        !(has || touches || (*strips && x.is_whitespace()))
    }
}

/// The parts of a sequence, or the one part; none of null.
fn flatten<'a>(described: &'a Value, parts: &str) -> Option<Vec<&'a Value>> {
    if described.is_null() {
        return Some(vec![]);
    }
    if described["type"] != "Sequence" {
        return Some(vec![described]);
    }
    let nested: Option<Vec<_>> =
        described[parts].as_array()?.iter().map(|part| flatten(part, parts)).collect();
    Some(nested?.concat())
}

/// The character of a text of one.
fn only(text: &str) -> Option<char> {
    let mut characters = text.chars();
    characters.next().filter(|_| characters.next().is_none())
}
