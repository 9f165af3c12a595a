//! Functions in a source file, found by name, wherever they have moved to.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Attribute, Block, ImplItem, Item, Signature, TraitItem, Type};

/// A source file and what it declares.
pub struct Source {
    pub text: String,
    pub file: syn::File,
}

/// One function in a [`Source`].
#[derive(Clone, Copy)]
pub struct Found<'a> {
    pub attributes: &'a [Attribute],
    pub signature: &'a Signature,
    pub block: &'a Block,
    /// From its first attribute to its closing brace.
    whole: Span,
}

impl Source {
    /// Parses `text`; `path` is for the sentence that says where it cannot be read.
    pub fn parse(path: &Path, text: String) -> Result<Self> {
        let file = syn::parse_file(&text).map_err(|error| {
            let at = error.span().start();
            anyhow::anyhow!("{}:{}:{}: {error}", path.display(), at.line, at.column + 1)
        });
        Ok(Self { file: file.context("the file is not Rust")?, text })
    }

    /// The function `name`: `None` if there is none, an error if there are several.
    pub fn function(&self, name: &str) -> Result<Option<Found<'_>>> {
        let all = self.functions();
        let mut named = all.into_iter().filter(|(names, _)| names.iter().any(|it| it == name));
        let first = named.next().map(|(_, found)| found);
        if named.next().is_some() {
            bail!("several functions are called `{name}`: name it `Trait for Type::function`");
        }
        Ok(first)
    }

    /// Every function, with the names it goes by.
    pub fn functions(&self) -> Vec<(Vec<String>, Found<'_>)> {
        let mut all = Vec::new();
        collect(&self.file.items, &mut all);
        all
    }

    /// The text of a range of bytes.
    pub fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }

    /// The spaces before the line on which a byte stands.
    pub fn indent(&self, at: usize) -> &str {
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = &self.text[start..];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }
}

impl Found<'_> {
    /// What stands between the braces.
    pub fn body(&self) -> Range<usize> {
        let braces = self.block.brace_token.span;
        braces.open().byte_range().end..braces.close().byte_range().start
    }

    /// The function with its attributes.
    pub fn whole(&self) -> Range<usize> {
        self.whole.byte_range()
    }

    /// Its first and its last line, counted from one; attributes and doc comment included.
    pub fn lines(&self) -> (usize, usize) {
        (self.whole.start().line, self.whole.end().line)
    }

    /// The line of the word `fn`, counted from one.
    pub fn line(&self) -> usize {
        self.signature.fn_token.span.start().line
    }
}

fn collect<'a>(items: &'a [Item], all: &mut Vec<(Vec<String>, Found<'a>)>) {
    for item in items {
        match item {
            Item::Fn(it) => {
                let (attributes, signature, block) = (&it.attrs[..], &it.sig, &*it.block);
                let found = Found { attributes, signature, block, whole: it.span() };
                all.push((vec![it.sig.ident.to_string()], found));
            }
            Item::Impl(it) => {
                let of = type_name(&it.self_ty);
                let by = it.trait_.as_ref().and_then(|(path, _)| path.segments.last());
                let by = by.map(|segment| segment.ident.to_string());
                for item in &it.items {
                    let ImplItem::Fn(it) = item else { continue };
                    let name = &it.sig.ident;
                    let mut names = vec![format!("{of}::{name}")];
                    names.extend(by.as_ref().map(|by| format!("{by} for {of}::{name}")));
                    let (attributes, signature, block) = (&it.attrs[..], &it.sig, &it.block);
                    all.push((names, Found { attributes, signature, block, whole: it.span() }));
                }
            }
            Item::Trait(it) => {
                for item in &it.items {
                    let TraitItem::Fn(method) = item else { continue };
                    let Some(block) = &method.default else { continue };
                    let (attributes, signature) = (&method.attrs[..], &method.sig);
                    let found = Found { attributes, signature, block, whole: method.span() };
                    all.push((vec![format!("{}::{}", it.ident, method.sig.ident)], found));
                }
            }
            Item::Mod(it) => {
                if let Some((_, items)) = &it.content {
                    collect(items, all);
                }
            }
            _ => {}
        }
    }
}

/// The last word of a type, without its parameters: `Naive` of `super::Naive<'a>`.
pub fn type_name(of: &Type) -> String {
    match of {
        Type::Path(path) => path.path.segments.last().map(|it| it.ident.to_string()),
        Type::Reference(it) => Some(type_name(&it.elem)),
        Type::Group(it) => Some(type_name(&it.elem)),
        Type::Paren(it) => Some(type_name(&it.elem)),
        _ => None,
    }
    .unwrap_or_else(|| "_".to_owned())
}
