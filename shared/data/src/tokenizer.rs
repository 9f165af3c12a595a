//! Text to tokens and back.

use crate::cuts::Cuts;
use crate::pieces::{self, WINDOW};
use anyhow::{Result, anyhow};
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tokenizers::ModelWrapper;

/// How text becomes tokens.
pub enum Tokenizer {
    /// Every byte of the UTF-8 text is a token: a vocabulary of 256.
    Bytes,
    /// What a Hugging Face `tokenizer.json` describes.
    HuggingFace(Box<HuggingFace>),
}

/// A `tokenizer.json` that has been read.
pub struct HuggingFace {
    tokenizer: tokenizers::Tokenizer,
    cuts: Option<Cuts>,
    /// SHA-256 of the file.
    pub(crate) digest: [u8; 32],
}

impl Tokenizer {
    /// That of a Hugging Face `tokenizer.json`; bytes, where none is named.
    ///
    /// # Errors
    /// Those of [`Tokenizer::from_file`].
    pub fn open(path: Option<&Path>) -> Result<Self> {
        path.map_or(Ok(Self::Bytes), Self::from_file)
    }

    /// Reads a Hugging Face `tokenizer.json`.
    ///
    /// # Errors
    /// If the file is missing, or is something else.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)
            .map_err(|e| anyhow!("cannot read the tokenizer {}: {e}", path.display()))?;
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|e| anyhow!("{} is not a tokenizer.json: {e}", path.display()))?;
        // Merges that are dropped by chance would give each rank another text.
        let mut model = tokenizer.get_model().clone();
        if let ModelWrapper::BPE(pairs) = &mut model
            && pairs.dropout.take().is_some()
        {
            tokenizer.with_model(model);
        }
        let cuts = Cuts::of(&tokenizer);
        let digest = Sha256::digest(&bytes).into();
        Ok(Self::HuggingFace(Box::new(HuggingFace { tokenizer, cuts, digest })))
    }

    /// The tokens of `text`, with none added to mark its beginning or end.
    ///
    /// # Errors
    /// If the tokenizer.json's rules fail on this text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Self::HuggingFace(tokenizer) => {
                let mut ids = Vec::new();
                tokenizer.encode_to(text, |some, _| {
                    ids.extend(some);
                    Ok(())
                })?;
                Ok(ids)
            }
        }
    }

    /// The text of `tokens`. What is not valid UTF-8, as in the middle of a character, becomes `�`.
    ///
    /// # Errors
    /// If a byte token is above 255, or the tokenizer.json's decoder fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        match self {
            Self::Bytes => {
                let byte = |&id| u8::try_from(id).map_err(|_| anyhow!("token {id} is not a byte"));
                let bytes: Vec<u8> = tokens.iter().map(byte).collect::<Result<_>>()?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Self::HuggingFace(tokenizer) => {
                let skip_special_tokens = false;
                tokenizer
                    .tokenizer
                    .decode(tokens, skip_special_tokens)
                    .map_err(|e| anyhow!("the tokenizer cannot decode the tokens: {e}"))
            }
        }
    }

    /// One more than the highest token that its model can make of a text: what a model's
    /// `vocab_size` must reach. Tokens that were added to it may be higher, and are no matter to a
    /// text that has none.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Bytes => 256,
            Self::HuggingFace(tokenizer) => {
                tokenizer.highest(false).map_or(0, |token| token as usize + 1)
            }
        }
    }
}

impl HuggingFace {
    /// Hands the tokens of `text` to `take`, some at a time, and with them how many bytes of the
    /// text are done. No truncation, padding or post-processor that the file asks for takes part:
    /// they are meant for the sentences of a batch.
    ///
    /// # Errors
    /// If the tokenizer.json's rules fail on this text, or `take` errs.
    pub(crate) fn encode_to(
        &self,
        text: &str,
        take: impl FnMut(&[u32], usize) -> Result<()>,
    ) -> Result<()> {
        self.encode_part(text, 0..text.len(), take)
    }

    /// The same of a part of `text`, which begins and ends at a [`HuggingFace::last_cut`], or with
    /// the text.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`], and of `take`.
    pub fn encode_part(
        &self,
        text: &str,
        part: Range<usize>,
        take: impl FnMut(&[u32], usize) -> Result<()>,
    ) -> Result<()> {
        let cuts = self.cuts.as_ref();
        let encode = || pieces::encode(&self.tokenizer, cuts, text, part, WINDOW, take);
        // A normalizer that inserts into a text makes the library panic on some.
        catch_unwind(AssertUnwindSafe(encode)).unwrap_or_else(|_| {
            Err(anyhow!("the tokenizer cannot encode the text: the library of tokenizers panicked"))
        })
    }

    /// The last place behind byte `from` where `text` can be cut, whatever follows it: both sides
    /// have the tokens that they have in the whole, if [`HuggingFace::encode_part`] sees the last
    /// `near` bytes before the cut and what follows it here. `None` if those bytes show none.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    pub fn last_cut(&self, text: &str, from: usize, near: usize) -> Result<Option<usize>> {
        let Some(cuts) = &self.cuts else { return Ok(None) };
        pieces::last_cut(&self.tokenizer, cuts, text, from, near)
    }

    /// Whether any text can be cut.
    pub fn has_cuts(&self) -> bool {
        self.cuts.is_some()
    }

    /// The token of this name, added ones among them.
    pub fn token(&self, name: &str) -> Option<u32> {
        self.tokenizer.token_to_id(name)
    }

    /// The highest token that the model makes of a text, or also of those that were added. (Not the
    /// number of entries: a vocabulary may have holes.)
    pub fn highest(&self, with_added: bool) -> Option<u32> {
        self.tokenizer.get_vocab(with_added).into_values().max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte-pair encoding of three merges, in the byte-level manner of Llama 3, with a hole at 6.
    const SMALL: &str = r#"{
        "version": "1.0",
        "added_tokens": [{"id": 9, "content": "<end>", "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\s?\\p{L}+(?!\\S)|\\s?\\p{L}+|."},
             "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false,
                  "vocab": {"a": 0, "b": 1, "c": 2, "Ġ": 3, "ab": 4, "Ġc": 5, "abc": 7, "Ã": 8, "©": 10},
                  "merges": ["a b", "Ġ c", "ab c"]}
    }"#;

    fn small() -> (tempfile::TempDir, Tokenizer) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        std::fs::write(&path, SMALL).unwrap();
        let tokenizer = Tokenizer::from_file(&path).unwrap();
        (dir, tokenizer)
    }

    #[test]
    fn a_tokenizer_json_encodes_and_decodes() {
        let (_dir, tokenizer) = small();
        let text = "abc caé";
        let tokens = tokenizer.encode(text).unwrap();
        assert_eq!(tokens, [7, 5, 0, 8, 10]);
        assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        assert_eq!(tokenizer.vocab_size(), 11, "the highest token is 10, for all the hole at 6");
        assert_eq!(tokenizer.encode("ab<end>").unwrap(), [4, 9]);
    }

    #[test]
    fn no_text_is_cut_or_padded_as_a_tokenizer_json_may_ask() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        let asks = r#"{
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
                        "pad_id": 0, "pad_type_id": 0, "pad_token": "a"},"#;
        std::fs::write(&path, SMALL.replacen('{', asks, 1)).unwrap();
        let tokenizer = Tokenizer::from_file(&path).unwrap();
        assert_eq!(tokenizer.encode("abc caé").unwrap(), [7, 5, 0, 8, 10]);
    }

    #[test]
    fn every_rank_encodes_alike_whatever_a_tokenizer_json_may_ask() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        // A merge is dropped by chance, here by certainty.
        std::fs::write(&path, SMALL.replace(r#""dropout": null"#, r#""dropout": 1.0"#)).unwrap();
        let tokenizer = Tokenizer::from_file(&path).unwrap();
        assert_eq!(tokenizer.encode("abc caé").unwrap(), [7, 5, 0, 8, 10]);
    }

    #[test]
    fn bytes_are_utf8() {
        let text = "Tea, café\n";
        let tokens = Tokenizer::Bytes.encode(text).unwrap();
        assert_eq!(tokens.len(), text.len());
        assert_eq!(Tokenizer::Bytes.decode(&tokens).unwrap(), text);
        assert_eq!(Tokenizer::Bytes.decode(&[b'a'.into(), 0xC3]).unwrap(), "a\u{FFFD}");
        let error = Tokenizer::Bytes.decode(&[256]).unwrap_err().to_string();
        assert_eq!(error, "token 256 is not a byte");
    }

    #[test]
    fn what_is_no_tokenizer_is_named() {
        let (dir, _) = small();
        let missing = Tokenizer::from_file(&dir.path().join("no.json")).err().unwrap().to_string();
        assert!(missing.contains("no.json: No such file"), "{missing}");
        let path = dir.path().join("config.json");
        std::fs::write(&path, "{}").unwrap();
        let other = Tokenizer::from_file(&path).err().unwrap().to_string();
        assert!(other.contains("config.json is not a tokenizer.json: "), "{other}");
    }
}
