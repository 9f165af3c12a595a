//! Names for what a source file declares, the same in two versions of it.

use syn::{Attribute, FnArg, ImplItem, Item, ItemImpl, Signature};

use crate::source::type_name;
use crate::tokens;

/// A signature without the names of its arguments.
pub fn shape(signature: &Signature) -> String {
    let mut words = vec![signature.ident.to_string(), tokens::meaning(&signature.generics)];
    words.push(tokens::meaning(&signature.generics.where_clause));
    for input in &signature.inputs {
        words.push(match input {
            FnArg::Receiver(it) => tokens::meaning(it),
            FnArg::Typed(it) => tokens::meaning(&it.ty),
        });
    }
    words.push(tokens::meaning(&signature.output));
    words.push(format!("{:?}", (signature.asyncness.is_some(), signature.constness.is_some())));
    words.join(" | ")
}

/// Attributes that change what is compiled.
pub fn attributes(all: &[Attribute]) -> Vec<String> {
    tokens::that_matter(all).map(tokens::meaning).collect()
}

/// `impl Trait for Type`.
pub fn head(it: &ItemImpl) -> String {
    let of = it.trait_.as_ref().map(|(path, _)| format!("{} for ", tokens::meaning(path)));
    let generics = tokens::meaning(&it.generics);
    format!("impl{generics} {}{}", of.unwrap_or_default(), tokens::meaning(&it.self_ty))
}

/// The key of something inside an `impl`: `Type::name`, or `Trait for Type::name`.
pub fn member(of: &ItemImpl, item: &ImplItem) -> String {
    let name = match item {
        ImplItem::Fn(it) => it.sig.ident.to_string(),
        ImplItem::Const(it) => it.ident.to_string(),
        ImplItem::Type(it) => it.ident.to_string(),
        other => tokens::meaning(other),
    };
    let by = of.trait_.as_ref().and_then(|(path, _)| path.segments.last());
    let by = by.map(|segment| format!("{} for ", segment.ident)).unwrap_or_default();
    format!("{by}{}::{name}", type_name(&of.self_ty))
}

/// The key of an item of a file.
pub fn name(item: &Item) -> String {
    match item {
        Item::Fn(it) => format!("fn {}", it.sig.ident),
        Item::Struct(it) => format!("struct {}", it.ident),
        Item::Enum(it) => format!("enum {}", it.ident),
        Item::Const(it) => format!("const {}", it.ident),
        Item::Static(it) => format!("static {}", it.ident),
        Item::Type(it) => format!("type {}", it.ident),
        Item::Trait(it) => format!("trait {}", it.ident),
        Item::Mod(it) => format!("mod {}", it.ident),
        Item::Macro(it) => tokens::meaning(&it.mac.path),
        other => tokens::meaning(other),
    }
}
