//! Lays what a learner wrote over our file: the functions of the lesson, and what they need besides. Everything else
//! stays ours, and what differs there is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{ImplItem, Item, ItemImpl};

use crate::keys::{attributes, head, member, name, shape};
use crate::lesson::Function;
use crate::refuse::{self, Refusal};
use crate::source::{Found, Source};
use crate::tokens;

/// What was handed in for one function of the lesson.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Written; whether it means what ours does, token for token.
    Written {
        is_ours: bool,
    },
    Unwritten,
    Missing,
    /// Its arguments or its result are others.
    OtherSignature,
    Refused,
}

/// Our file with their functions.
pub struct Laid {
    pub text: String,
    pub functions: Vec<(String, Given)>,
    /// Line and words: what they changed that is not theirs to change.
    pub tampered: Vec<Refusal>,
    /// Line and words: what is not run.
    pub refused: Vec<Refusal>,
}

/// Lays `theirs` over `ours`, for the lesson's functions of this file.
pub fn lay(ours: &Source, theirs: &Source, functions: &[&Function]) -> Result<Laid> {
    let mut allowed = BTreeSet::new();
    for function in functions {
        if let Some(found) = ours.function(&function.name)? {
            let tokens = tokens::flat(found.block.to_token_stream());
            allowed.extend(refuse::scan(&tokens, &BTreeSet::new()).into_iter().map(|it| it.1));
        }
    }
    let names = functions.iter().map(|function| function.name.clone()).collect();
    let mut laying = Laying { ours, theirs, names, allowed, ..Laying::new(ours, theirs) };
    let mut given = Vec::new();
    for function in functions {
        let ours = ours.function(&function.name)?;
        let theirs = theirs.function(&function.name).ok().flatten();
        let state = match (ours, theirs) {
            (Some(ours), Some(theirs)) => laying.function(ours, theirs),
            _ => Given::Missing,
        };
        given.push((function.name.clone(), state));
    }
    laying.items();
    let Laying { tampered, refused, .. } = &laying;
    let (tampered, refused) = (tampered.clone(), refused.clone());
    Ok(Laid { text: laying.text(), functions: given, tampered, refused })
}

struct Laying<'a> {
    ours: &'a Source,
    theirs: &'a Source,
    names: BTreeSet<String>,
    allowed: BTreeSet<String>,
    /// What replaces which bytes of our text.
    edits: Vec<(Range<usize>, String)>,
    tampered: Vec<Refusal>,
    refused: Vec<Refusal>,
}

impl<'a> Laying<'a> {
    fn new(ours: &'a Source, theirs: &'a Source) -> Self {
        let (names, allowed) = Default::default();
        let (edits, tampered, refused) = Default::default();
        Self { ours, theirs, names, allowed, edits, tampered, refused }
    }

    fn function(&mut self, ours: Found<'_>, theirs: Found<'_>) -> Given {
        let same = shape(ours.signature) == shape(theirs.signature)
            && attributes(ours.attributes) == attributes(theirs.attributes);
        if !same {
            return Given::OtherSignature;
        }
        if self.refuses(&theirs.block) {
            return Given::Refused;
        }
        // From the word `fn`: their arguments may have other names.
        let from =
            |found: Found<'_>| found.signature.fn_token.span.byte_range().start..found.whole().end;
        self.edits.push((from(ours), self.theirs.slice(from(theirs)).to_owned()));
        if tokens::is_unwritten(theirs.block) {
            return Given::Unwritten;
        }
        Given::Written { is_ours: tokens::meaning(ours.block) == tokens::meaning(theirs.block) }
    }

    fn refuses(&mut self, code: &impl ToTokens) -> bool {
        let found = refuse::scan(&tokens::flat(code.to_token_stream()), &self.allowed);
        self.refused.extend(found.iter().cloned());
        !found.is_empty()
    }

    /// Everything but the lesson's functions.
    fn items(&mut self) {
        let (ours, theirs) = (self.ours, self.theirs);
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        let mut impls: BTreeMap<String, &ItemImpl> = BTreeMap::new();
        let mut imported = BTreeSet::new();
        for item in &ours.file.items {
            match item {
                Item::Use(it) => imported.extend(refuse::leaves(&it.tree)),
                Item::Impl(it) => {
                    impls.entry(head(it)).or_insert(it);
                    for item in &it.items {
                        known.insert(member(it, item), tokens::meaning(item));
                    }
                }
                item => drop(known.insert(name(item), tokens::meaning(item))),
            }
        }
        let mut seen = BTreeSet::new();
        for item in &theirs.file.items {
            match item {
                Item::Use(it) => {
                    for leaf in refuse::leaves(&it.tree) {
                        self.import(&leaf, it.span().start().line, &imported);
                    }
                }
                Item::Impl(it) => match impls.get(&head(it)) {
                    Some(home) => {
                        let close = home.brace_token.span.close().byte_range().start;
                        for item in &it.items {
                            seen.insert(member(it, item));
                            let is_fn = matches!(item, ImplItem::Fn(_) | ImplItem::Const(_));
                            self.item(&member(it, item), item, &known, is_fn, close);
                        }
                    }
                    None => self.item(&head(it), item, &known, true, ours.text.len()),
                },
                item => {
                    seen.insert(name(item));
                    let kind = matches!(
                        item,
                        Item::Fn(_)
                            | Item::Struct(_)
                            | Item::Enum(_)
                            | Item::Const(_)
                            | Item::Type(_)
                            | Item::Trait(_)
                    );
                    self.item(&name(item), item, &known, kind, ours.text.len());
                }
            }
        }
        for gone in known.keys().filter(|key| !seen.contains(*key)) {
            if !self.is_lesson(gone) {
                self.tampered.push((0, format!("`{gone}` is gone: ours is used")));
            }
        }
    }

    fn is_lesson(&self, key: &str) -> bool {
        self.names.iter().any(|name| key == name || key == format!("fn {name}"))
            || self.names.iter().any(|name| key.ends_with(&format!(" for {name}")))
    }

    fn item(
        &mut self,
        key: &str,
        item: &(impl ToTokens + Spanned),
        known: &BTreeMap<String, String>,
        is_taken: bool,
        at: usize,
    ) {
        let line = item.span().start().line;
        match known.get(key) {
            _ if self.is_lesson(key) => {}
            Some(ours) if *ours == tokens::meaning(item) => {}
            Some(_) => self.tampered.push((line, format!("`{key}` differs: ours is used"))),
            None if !is_taken => self.tampered.push((line, format!("`{key}` is left out"))),
            None if self.refuses(item) => {}
            None => {
                let text = self.theirs.slice(item.span().byte_range());
                self.edits.push((at..at, format!("\n{text}\n")));
            }
        }
    }

    fn import(&mut self, leaf: &str, line: usize, imported: &BTreeSet<String>) {
        if imported.contains(leaf) {
            return;
        }
        if let Some(what) = refuse::import(leaf, &self.allowed) {
            self.refused.push((line, what));
            return;
        }
        let brings = |leaf: &str| leaf.rsplit([':', ' ']).next().unwrap_or_default().to_owned();
        let other = imported.iter().find(|it| brings(it) == brings(leaf));
        match other.filter(|_| !["*", "_"].contains(&brings(leaf).as_str())) {
            Some(other) => {
                let what = format!("`use {leaf}` hides our `use {other}`: ours is used");
                self.tampered.push((line, what));
            }
            None => {
                let end = self.ours.text.len();
                self.edits.push((end..end, format!("\n#[allow(unused_imports)]\nuse {leaf};\n")));
            }
        }
    }

    fn text(mut self) -> String {
        let mut text = self.ours.text.clone();
        // From the end, so that earlier places stay where they are; equal places in their order.
        self.edits.reverse();
        self.edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        for (range, new) in &self.edits {
            text.replace_range(range.clone(), new);
        }
        text
    }
}

/// The line of a tampering or a refusal, as a person reads it.
pub fn shown(file: &Path, found: &Refusal) -> String {
    match found.0 {
        0 => format!("{}: {}", file.display(), found.1),
        line => format!("{}:{line}: {}", file.display(), found.1),
    }
}

/// What is refused in a whole file.
pub fn scan(theirs: &Source) -> Vec<Refusal> {
    refuse::scan(&tokens::flat(theirs.file.to_token_stream()), &BTreeSet::new())
}
