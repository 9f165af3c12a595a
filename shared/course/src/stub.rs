//! What stands in a function that is handed out: the contract, where to read, how to go on, and a `todo!()`.

use syn::{FnArg, Pat};

use crate::lesson::{Function, Lesson};
use crate::page;
use crate::source::{Found, Source};

const WIDTH: usize = 100;

/// The file with the function's body handed out.
pub fn hand_out(source: &Source, found: Found<'_>, lesson: &Lesson, function: &Function) -> String {
    let indent = source.indent(found.signature.fn_token.span.byte_range().start);
    let body = body(&format!("{indent}    "), found, lesson, function);
    let at = found.body();
    format!("{}\n{body}{indent}{}", &source.text[..at.start], &source.text[at.end..])
}

fn body(indent: &str, found: Found<'_>, lesson: &Lesson, function: &Function) -> String {
    let (name, step) = (&function.name, &lesson.name);
    let mut lines = vec![format!("Write it: {name}, {}.", points(function.points)), String::new()];
    lines.extend(paragraphs(&function.contract));
    lines.extend([
        String::new(),
        format!("The book: {}", page::shown(&function.section)),
        format!("Test it:  make check STEP={step}"),
        format!("A hint:   make check STEP={step} FUNCTION='{name}' HINT=1, then HINT=2"),
    ]);
    let width = WIDTH.saturating_sub(indent.len() + 3).max(40);
    let mut text = String::new();
    for line in lines.iter().flat_map(|line| textwrap::wrap(line, width)) {
        text += format!("{indent}// {line}").trim_end();
        text += "\n";
    }
    let arguments = arguments(found);
    // So that the compiler does not complain of what is not used yet.
    text += &match &arguments[..] {
        [] => String::new(),
        [one] => format!("{indent}let _ = {one};\n"),
        all => format!("{indent}let _ = ({});\n", all.join(", ")),
    };
    text += &format!("{indent}todo!(\"{name}\")\n");
    text
}

/// Lines of a paragraph are joined, so that they can be wrapped anew; items of lists stay apart.
fn paragraphs(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.trim().lines() {
        let line = line.trim();
        // `Given: …`, `- …`, `1. …`
        let first = line.split(' ').next().unwrap_or_default();
        let is_item = first.ends_with(':') && first.starts_with(char::is_uppercase)
            || first.starts_with(['-', '*'])
            || first.strip_suffix('.').is_some_and(|it| it.parse::<u32>().is_ok());
        match lines.last_mut() {
            Some(last) if !last.is_empty() && !line.is_empty() && !is_item => {
                *last += " ";
                *last += line;
            }
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

/// References to all arguments, also to those inside patterns.
fn arguments(found: Found<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for input in &found.signature.inputs {
        if let FnArg::Typed(argument) = input {
            bound(&argument.pat, &mut names);
        }
    }
    names
}

fn bound(pattern: &Pat, names: &mut Vec<String>) {
    match pattern {
        Pat::Ident(it) if it.ident.to_string().starts_with('_') => {}
        Pat::Ident(it) => names.push(format!("&{}", it.ident)),
        Pat::Reference(it) => bound(&it.pat, names),
        Pat::Tuple(it) => it.elems.iter().for_each(|it| bound(it, names)),
        Pat::TupleStruct(it) => it.elems.iter().for_each(|it| bound(it, names)),
        Pat::Struct(it) => it.fields.iter().for_each(|it| bound(&it.pat, names)),
        Pat::Type(it) => bound(&it.pat, names),
        _ => {}
    }
}

/// `1 point`, `2 points`.
pub fn points(points: u32) -> String {
    format!("{points} point{}", if points == 1 { "" } else { "s" })
}
