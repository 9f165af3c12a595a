//! What no lesson needs, and what is therefore not run: another process, files, the network, foreign code, code that
//! depends on how it is compiled, words that imitate the harness.

use std::collections::BTreeSet;

use syn::{ItemUse, UseTree};

use crate::tokens::Token;

/// Words that are refused wherever they stand.
const WORDS: [&str; 15] = [
    "unsafe",
    "extern",
    "asm",
    "global_asm",
    "naked_asm",
    "libc",
    "rustix",
    "nix",
    "no_mangle",
    "export_name",
    "link_section",
    "global_allocator",
    "macro_rules",
    "transmute",
    "cfg_attr",
];

/// Macros that are refused.
const MACROS: [&str; 8] = [
    "include",
    "include_str",
    "include_bytes",
    "env",
    "option_env",
    "cfg",
    "cfg_select",
    "module_path",
];

/// Modules of the standard library that are refused.
const MODULES: [&str; 6] = ["process", "env", "fs", "net", "os", "ffi"];

/// Something refused: its line, and what it is.
pub type Refusal = (usize, String);

/// Goes through tokens; what our own solution uses is `allowed`.
pub fn scan(tokens: &[Token], allowed: &BTreeSet<String>) -> Vec<Refusal> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let text = |offset: isize| {
            let token = at.checked_add_signed(offset).and_then(|at| tokens.get(at));
            token.map_or("", |token| token.text.trim_start_matches("r#"))
        };
        let word = text(0);
        let is_path = text(1) == ":" && text(2) == ":";
        let of_std = text(-1) == ":" && text(-2) == ":" && text(-3) == "std";
        let what = if tokens[at].is_literal {
            word.contains("test result").then(|| "the harness' words `test result`".to_owned())
        } else if WORDS.contains(&word) {
            Some(format!("`{word}`"))
        } else if MACROS.contains(&word) && text(1) == "!" {
            Some(format!("`{word}!`"))
        } else if word == "cfg" && text(-1) == "[" {
            Some("`#[cfg]`".to_owned())
        } else if MODULES.contains(&word) && (is_path || of_std) {
            Some(format!("`std::{word}`"))
        } else {
            None
        };
        let imported = if word == "use" { imports(&tokens[at..], allowed) } else { Vec::new() };
        let what = what.filter(|what| !allowed.contains(what)).into_iter().chain(imported);
        found.extend(what.map(|what| (tokens[at].span.start().line, what)));
    }
    found.dedup();
    found
}

/// What is refused of a `use` that `tokens` begin with, wherever it stands.
fn imports(tokens: &[Token], allowed: &BTreeSet<String>) -> Vec<String> {
    let words = tokens.iter().map(|token| token.text.as_str());
    let words: Vec<_> = words.take_while(|word| *word != ";").collect();
    // `use<'a>` in a type brings nothing in.
    if words.get(1) == Some(&"<") {
        return Vec::new();
    }
    let text = words.join(" ").replace(": :", "::");
    let Ok(item) = syn::parse_str::<ItemUse>(&format!("{text};")) else {
        return vec!["a `use` that cannot be read".to_owned()];
    };
    leaves(&item.tree).iter().filter_map(|leaf| import(leaf, allowed)).collect()
}

/// One name that a `use` brings in: `std::fmt::Write as _`.
pub fn leaves(tree: &UseTree) -> Vec<String> {
    match tree {
        UseTree::Path(path) => {
            let below = leaves(&path.tree).into_iter();
            below.map(|leaf| format!("{}::{leaf}", path.ident)).collect()
        }
        UseTree::Name(name) => vec![name.ident.to_string()],
        UseTree::Rename(rename) => vec![format!("{} as {}", rename.ident, rename.rename)],
        UseTree::Glob(_) => vec!["*".to_owned()],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// Whether a name that is brought in is refused.
pub fn import(leaf: &str, allowed: &BTreeSet<String>) -> Option<String> {
    let leaf = leaf.replace("r#", "");
    let words: Vec<_> = leaf.split([':', ' ']).filter(|word| !word.is_empty()).collect();
    let is_std = words.first() == Some(&"std");
    let what = match words.get(1) {
        // `use std as other`, `use std::*`: whatever stands in it could be had.
        None | Some(&("as" | "*" | "self")) if is_std => Some(format!("`use {leaf}`")),
        Some(&module) if is_std && MODULES.contains(&module) => Some(format!("`std::{module}`")),
        _ => None,
    };
    let foreign = words.first().filter(|word| WORDS.contains(word));
    what.or(foreign.map(|word| format!("`{word}`"))).filter(|what| !allowed.contains(what))
}
