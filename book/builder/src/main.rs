//! Builds the book, checks it and serves it.

mod answers;
#[cfg(test)]
mod browser;
mod code;
mod coverage;
mod diff;
mod directive;
mod drawings;
mod formula;
mod lesson;
mod lex;
mod listing;
mod marked;
mod math;
mod pages;
mod picture;
mod quantities;
mod questions;
mod runs;
mod select;
mod serve;
mod slides;
mod steps;
mod timeline;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use mdbook_driver::MDBook;

const USAGE: &str = "\
cargo run -p book [-- COMMAND]
  build              render the book to book/out and check it (the default)
  check              the same, quietly
  serve [PORT]       build, then serve it on this machine
  slides             write a deck of slides for each chapter to book/out/slides
  answers            write the sheet of answers for teachers to book/out/answers.html
  record [NAME]      run the commands of book/runs.toml and write what they print
  check-runs [NAME]  run them again and compare";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let root = root()?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] | ["build"] => {
            let out = build(&root, None)?;
            println!("The book is {}", out.join("index.html").display());
            Ok(())
        }
        ["check"] => build(&root, None).map(drop),
        ["serve"] => serve::serve(&build(&root, None)?, 3000),
        ["serve", port] => {
            let port = port.parse().with_context(|| format!("the port `{port}`"))?;
            serve::serve(&build(&root, None)?, port)
        }
        ["slides"] => {
            println!("The slides are {}", slides::write(&root)?.display());
            Ok(())
        }
        ["answers"] => {
            println!("The answers are {}", answers::write(&root)?.display());
            Ok(())
        }
        ["record"] => runs::record(&root, None),
        ["record", name] => runs::record(&root, Some(name)),
        ["check-runs"] => runs::check(&root, None),
        ["check-runs", name] => runs::check(&root, Some(name)),
        _ => bail!("unknown command `{}`\n{USAGE}", words.join(" ")),
    }
}

/// The root of the repository: the nearest directory above this one with `book/book.toml`.
fn root() -> Result<PathBuf> {
    let here = std::env::current_dir()?;
    let root = here.ancestors().find(|dir| dir.join("book/book.toml").is_file());
    root.map(Path::to_path_buf).context("run this inside the repository: no book/book.toml above")
}

/// Renders the book, to `out` or to where `book.toml` says, and checks what was rendered; returns
/// where it is.
fn build(root: &Path, out: Option<&Path>) -> Result<PathBuf> {
    let mut book = MDBook::load(root.join("book"))?;
    if let Some(out) = out {
        book.config.build.build_dir = out.to_path_buf();
    }
    book.with_preprocessor(lesson::Lesson { root: root.to_path_buf() });
    book.build()?;
    let out = book.build_dir_for("html");
    pages::check(&out)?;
    Ok(out)
}
