//! Token streams: what a compiler sees of a text, without its comments and line breaks.

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::Attribute;

/// What a piece of code means, to compare it with another: no comments, no line breaks.
pub fn meaning(code: &impl ToTokens) -> String {
    let tokens = flat(code.to_token_stream());
    let mut words: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text.as_str());
        if next(0) == "#" && next(1) == "[" && next(2) == "doc" {
            at += 6; // # [ doc = "…" ]
        } else if next(0) == "#" && next(1) == "!" && next(2) == "[" && next(3) == "doc" {
            at += 7;
        } else {
            // A comma before a closing bracket is the formatter's.
            if [")", "]", "}"].contains(&next(0)) && words.last() == Some(&",") {
                words.pop();
            }
            words.push(next(0));
            at += 1;
        }
    }
    words.join(" ")
}

/// One token without structure: a word, a sign, a literal or a bracket.
pub struct Token {
    pub text: String,
    pub span: Span,
    pub is_literal: bool,
}

/// All tokens in the order of the text; groups are opened.
pub fn flat(stream: TokenStream) -> Vec<Token> {
    let mut tokens = Vec::new();
    push(stream, &mut tokens);
    tokens
}

fn push(stream: TokenStream, into: &mut Vec<Token>) {
    for tree in stream {
        let (text, span, is_literal) = match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                let bracket =
                    |text: &str, span| Token { text: text.to_owned(), span, is_literal: false };
                into.push(bracket(open, group.span_open()));
                push(group.stream(), into);
                into.push(bracket(close, group.span_close()));
                continue;
            }
            TokenTree::Ident(it) => (it.to_string(), it.span(), false),
            TokenTree::Punct(it) => (it.as_char().to_string(), it.span(), false),
            TokenTree::Literal(it) => (it.to_string(), it.span(), true),
        };
        into.push(Token { text, span, is_literal });
    }
}

/// Whether `todo!()` or `unimplemented!()` stands anywhere in it.
pub fn is_unwritten(code: &impl ToTokens) -> bool {
    let tokens = flat(code.to_token_stream());
    tokens.windows(2).any(|pair| {
        ["todo", "unimplemented"].contains(&pair[0].text.as_str()) && pair[1].text == "!"
    })
}

/// Attributes that are more than words for the reader or for the linter.
pub fn that_matter(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    const WORDS: [&str; 5] = ["doc", "allow", "expect", "warn", "inline"];
    attributes.iter().filter(|it| !WORDS.iter().any(|word| it.path().is_ident(word)))
}
