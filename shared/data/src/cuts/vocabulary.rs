//! Which characters no token has side by side.

use std::collections::HashSet;
use tokenizers::ModelWrapper;

/// The characters of a vocabulary of merges. What its merges make of a text on one side of a place
/// that no token runs across is independent of the other side.
pub(super) struct Vocabulary {
    pairs: HashSet<(char, char)>,
    single: HashSet<char>,
}

impl Vocabulary {
    /// `None` for a model of another kind, and for one whose tokens depend on where a word
    /// begins and ends.
    pub fn read(tokenizer: &tokenizers::Tokenizer) -> Option<Self> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
        let affix = |affix: &Option<String>| affix.as_ref().is_some_and(|affix| !affix.is_empty());
        if model.ignore_merges
            || affix(&model.continuing_subword_prefix)
            || affix(&model.end_of_word_suffix)
        {
            return None;
        }
        let (mut pairs, mut single) = (HashSet::new(), HashSet::new());
        for token in model.get_vocab().into_keys() {
            let mut characters = token.chars();
            if let (Some(only), None) = (characters.next(), characters.next()) {
                single.insert(only);
            }
            pairs.extend(token.chars().zip(token.chars().skip(1)));
        }
        Some(Self { pairs, single })
    }

    /// Whether no token runs across the place between `x` and `y`. (A character that is not in the
    /// vocabulary becomes bytes, or an unknown token that takes in its neighbours.)
    pub fn parts(&self, x: char, y: char) -> bool {
        !self.pairs.contains(&(x, y)) && self.single.contains(&x) && self.single.contains(&y)
    }
}
