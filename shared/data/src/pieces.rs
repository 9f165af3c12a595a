//! Encoding a long text piece by piece, in little memory, to just the tokens of the whole.

use crate::cuts::{Cuts, Openness};
use anyhow::{Result, anyhow, ensure};
use std::ops::Range;
use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizer, Tokenizer};

/// Bytes of text that are encoded at once: while it works, the tokenizer needs a hundred times
/// as much memory.
pub(crate) const WINDOW: usize = 1 << 16;

/// Hands the tokens of `part` of `text` to `take`, some at a time, in order: those that it has in
/// the whole. A window of text is encoded, its tokens up to a cut near its end are taken, and the
/// next window begins one character before that cut: at the cut itself it would begin like a text,
/// to which some tokenizers add a space.
///
/// A part begins and ends at a cut ([`last_cut`]), or with its text.
///
/// # Errors
/// If the tokenizer cannot encode a window, or `take` errs.
pub(crate) fn encode(
    tokenizer: &Tokenizer,
    cuts: Option<&Cuts>,
    text: &str,
    part: Range<usize>,
    window: usize,
    mut take: impl FnMut(&[u32], usize) -> Result<()>,
) -> Result<()> {
    let mut done = part.start; // a cut; all before it has been taken
    let (mut back, mut ahead) = (1, window);
    while done < part.end {
        let start = whole_before(text, done.saturating_sub(back));
        let end = match cuts {
            Some(_) => whole_from(text, done.saturating_add(ahead)),
            None => text.len(),
        };
        let found = Window::encode(tokenizer, &text[start..end])?;
        let place = |at: usize| cuts.and_then(|cuts| found.tokens_before(cuts, text, start, at));
        // A match that begins at a cut ends at the open place behind it, if not before.
        let open_behind = |at: usize| (at + 1..end).any(|at| is_open(cuts, text, at));
        let first = if start == 0 && done == 0 { Some(0) } else { place(done) };
        let last = match (end == text.len(), end > part.end) {
            _ if first.is_none() => None,
            (true, false) => Some((end, found.ids.len())),
            (_, true) => {
                let last = place(part.end).filter(|_| open_behind(part.end));
                last.map(|last| (part.end, last))
            }
            (false, false) => {
                let mut open = (done + 1..end).rev().filter(|&at| is_open(cuts, text, at)).skip(1);
                open.find_map(|at| Some((at, place(at)?)))
            }
        };
        if let (Some(first), Some((cut, last))) = (first, last) {
            take(&found.ids[first..last], cut)?;
            (done, back, ahead) = (cut, 1, window);
            continue;
        }
        // The window shows too little of what begins or ends there.
        let is_whole = start == 0 && end == text.len();
        ensure!(
            !is_whole,
            "the tokenizer splits the same text in two ways: encode it elsewhere, to a .u32 file"
        );
        if first.is_none() {
            back = back.saturating_mul(2);
        }
        ahead = ahead.saturating_mul(2);
    }
    Ok(())
}

/// The last cut in `text` behind byte `from`, as far as its last `near` bytes show it: what stands
/// before it becomes the same tokens whatever follows the text.
///
/// # Errors
/// If the tokenizer cannot encode them.
pub(crate) fn last_cut(
    tokenizer: &Tokenizer,
    cuts: &Cuts,
    text: &str,
    from: usize,
    near: usize,
) -> Result<Option<usize>> {
    let start = whole_before(text, text.len().saturating_sub(near));
    let found = Window::encode(tokenizer, &text[start..])?;
    let open: Vec<usize> =
        (start + 1..text.len()).filter(|&at| is_open(Some(cuts), text, at)).collect();
    // A match that ends at the first may have begun before the window, and otherwise.
    let [_, between @ .., _] = &open[..] else { return Ok(None) };
    let is_cut =
        |at: &&usize| **at > from && found.tokens_before(cuts, text, start, **at).is_some();
    Ok(between.iter().rev().find(is_cut).copied())
}

fn is_open(cuts: Option<&Cuts>, text: &str, at: usize) -> bool {
    text.is_char_boundary(at) && cuts.is_some_and(|cuts| cuts.at(text, at) != Openness::Closed)
}

/// The last place up to byte `at` where a character begins.
fn whole_before(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// The first place from byte `at` on where a character begins, or the end of the text.
fn whole_from(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

/// The tokens of part of a text.
struct Window {
    ids: Vec<u32>,
    /// Of every token, the bytes of the window that it stands for.
    offsets: Vec<(usize, usize)>,
    /// Of every piece that the pre-tokenizer makes, its bytes, and how many tokens come before it.
    pieces: Vec<(usize, usize, usize)>,
}

impl Window {
    /// As `Tokenizer::encode` does, without a post-processor.
    fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Self> {
        let cannot = |error| anyhow!("the tokenizer cannot encode the text: {error}");
        let normalizer = tokenizer.get_normalizer();
        let mut split = tokenizer.get_added_vocabulary().extract_and_normalize(normalizer, text);
        if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut split).map_err(cannot)?;
        }
        tokenizer.get_model().tokenize_in_pretokenized(&mut split, None).map_err(cannot)?;
        let mut before = 0;
        let splits = split.get_splits(OffsetReferential::Original, OffsetType::Byte).into_iter();
        let pieces = splits.map(|(_, (start, end), tokens)| {
            before += tokens.as_ref().map_or(0, Vec::len);
            (start, end, before - tokens.as_ref().map_or(0, Vec::len))
        });
        let pieces = pieces.collect();
        let encoding = split.into_encoding(None, 0, OffsetType::Byte).map_err(cannot)?;
        let (ids, offsets) = (encoding.get_ids().to_vec(), encoding.get_offsets().to_vec());
        Ok(Self { ids, offsets, pieces })
    }

    /// How many tokens of this window, which begins at byte `start` of `text`, come before byte
    /// `at`; `None` if the text cannot be cut there.
    fn tokens_before(&self, cuts: &Cuts, text: &str, start: usize, at: usize) -> Option<usize> {
        let openness = cuts.at(text, at);
        let at = at - start;
        let next = self.pieces.partition_point(|&(begins, ..)| begins < at);
        let ended = next.checked_sub(1).map(|last| self.pieces[last].1);
        let begins = self.pieces.get(next).map(|piece| piece.0);
        let is_split =
            ended.is_none_or(|end| end <= at) && (ended == Some(at) || begins == Some(at));
        match openness {
            Openness::Closed => None,
            _ if is_split => {
                Some(self.pieces.get(next).map_or(self.ids.len(), |&(_, _, before)| before))
            }
            Openness::Open => None,
            Openness::Parted => {
                let next = self.offsets.partition_point(|&(begins, _)| begins < at);
                let ended = next.checked_sub(1).map(|last| self.offsets[last].1);
                ended.is_none_or(|end| end <= at).then_some(next)
            }
        }
    }
}

#[cfg(test)]
mod tests;
