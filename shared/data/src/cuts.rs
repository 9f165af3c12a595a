//! Where a text may be cut so that both sides become the tokens that they are in the whole text.

mod pattern;
mod pipeline;
mod vocabulary;

use pattern::Pattern;
use pipeline::Pipeline;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use vocabulary::Vocabulary;

/// What is known about a tokenizer's cuts: between which characters nothing of it can reach.
///
/// A place is *open* if no added token, no match of a pattern and no normalization can run across
/// it, whatever stands further off on either side. Patterns are matched from left to right and look
/// at most one character ahead, so what happens left of an open place depends on the text up to one
/// character behind it, and what happens right of it on the text from it on. If the text is also
/// split at such a place, or no token of the vocabulary has its two characters side by side, then
/// the tokens on its two sides are independent of each other.
pub(crate) struct Cuts {
    pipeline: Pipeline,
    vocabulary: Option<Vocabulary>,
    known: Mutex<HashMap<(char, char), Openness>>,
}

/// What the place between two characters is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Openness {
    /// Something may run across.
    Closed,
    /// A cut, if the text is split there.
    Open,
    /// A cut: no token has these two characters side by side.
    Parted,
}

impl Cuts {
    /// `None` if nothing is known about one of the tokenizer's parts: its text is encoded whole.
    pub fn of(tokenizer: &tokenizers::Tokenizer) -> Option<Self> {
        let pipeline = Pipeline::read(tokenizer)?;
        let vocabulary = if pipeline.keeps_characters { Vocabulary::read(tokenizer) } else { None };
        Some(Self { pipeline, vocabulary, known: Mutex::default() })
    }

    /// The place in `text` before byte `at`.
    pub fn at(&self, text: &str, at: usize) -> Openness {
        let mut after = text[at..].chars();
        let (Some(x), Some(y), Some(z)) =
            (text[..at].chars().next_back(), after.next(), after.next())
        else {
            return Openness::Closed;
        };
        // A mark behind `y` would make another character of it.
        if ![x, y, z].iter().all(|&c| self.pipeline.is_plain(c)) {
            return Openness::Closed;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry((x, y)).or_insert_with(|| self.between(x, y))
    }

    fn between(&self, x: char, y: char) -> Openness {
        let Some((x, y)) = self.pipeline.open(x, y) else { return Openness::Closed };
        match &self.vocabulary {
            Some(vocabulary) if vocabulary.parts(x, y) => Openness::Parted,
            _ => Openness::Open,
        }
    }
}
