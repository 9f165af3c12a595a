//! The one preprocessor: expands directives and formulas in every chapter, then asks whether the
//! chapters explain every step.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use mdbook_preprocessor::book::Book;
use mdbook_preprocessor::{Preprocessor, PreprocessorContext};

use crate::coverage::Explained;
use crate::directive::Directive;
use crate::questions::Sheet;
use crate::steps::{self, Step};
use crate::{code, marked, math, picture, runs, timeline};

/// mdBook's seam for what this book adds to Markdown.
pub struct Lesson {
    /// Root of the repository.
    pub root: PathBuf,
}

impl Preprocessor for Lesson {
    fn name(&self) -> &str {
        "lesson"
    }

    fn run(&self, context: &PreprocessorContext, mut book: Book) -> Result<Book> {
        let key = "preprocessor.lesson.unwritten";
        let unwritten: Vec<String> = context.config.get(key)?.unwrap_or_default();
        let steps = steps::load(&self.root)?;
        let mut explained = Explained::default();
        let mut problems = Vec::new();
        let (mut chapters, mut sources) = (Vec::new(), Vec::new());
        book.for_each_chapter_mut(|chapter| {
            let path = chapter.path.clone().unwrap_or_default();
            let (text, wrong) = expand(&chapter.content, &self.root, &steps, &mut explained);
            problems.extend(wrong.into_iter().map(|p| format!("book/src/{}:{p}", path.display())));
            sources
                .push((path.display().to_string(), std::mem::replace(&mut chapter.content, text)));
            chapters.push(path.display().to_string());
        });
        problems.extend(unexplained(&steps, &chapters, &unwritten, &explained));
        problems.extend(marked::unasked(&self.root, &sources));
        if !problems.is_empty() {
            bail!("{} thing(s) to mend:\n  {}", problems.len(), problems.join("\n  "));
        }
        Ok(book)
    }
}

/// A chapter's Markdown with its directives and formulas replaced, and `line: problem` for each
/// that could not be.
pub fn expand(
    markdown: &str,
    root: &Path,
    steps: &[Step],
    explained: &mut Explained,
) -> (String, Vec<String>) {
    let (mut out, mut problems) = (String::new(), Vec::new());
    let (mut fenced, mut asks) = (false, None);
    for (i, line) in markdown.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        match Directive::parse(line) {
            Ok(Some(ask)) if !fenced => {
                match answer(&ask, root, steps, explained) {
                    Ok(html) => out.push_str(&html),
                    Err(error) => problems.push(format!("{}: {}: {error:#}", i + 1, line.trim())),
                }
                asks = if ask.name == "questions" { ask.arguments.first().cloned() } else { asks };
            }
            Err(error) if !fenced => problems.push(format!("{}: {error:#}", i + 1)),
            _ if fenced => out.push_str(line),
            _ => out.push_str(&with_whole_flags(line)),
        }
        out.push('\n');
    }
    match asks.map(|chapter| Sheet::load(root, &chapter)?.answers()).transpose() {
        Ok(answers) => out.push_str(&answers.unwrap_or_default()),
        Err(error) => problems.push(format!("1: {error:#}")),
    }
    match math::with_mathml(&out) {
        Ok(html) => (html, problems),
        Err(error) => {
            problems.push(format!("1: {error:#}"));
            (out, problems)
        }
    }
}

/// A line with each flag in code marked, so that a phone does not break `--flag`
/// behind its hyphens.
fn with_whole_flags(line: &str) -> String {
    let part = |(i, text): (usize, &str)| match text {
        _ if i % 2 == 0 => text.to_owned(),
        flag if flag.starts_with("--") && !flag.contains(' ') => {
            format!("<span class=\"flag\">`{flag}`</span>")
        }
        code => format!("`{code}`"),
    };
    match line.matches('`').count() % 2 {
        0 => line.split('`').enumerate().map(part).collect(),
        _ => line.to_owned(), // code that goes on in the next line
    }
}

/// What a directive shows, as HTML.
///
/// # Errors
/// When it is written wrongly, or nothing fits it.
pub(crate) fn answer(
    ask: &Directive,
    root: &Path,
    steps: &[Step],
    explained: &mut Explained,
) -> Result<String> {
    match ask.name.as_str() {
        "stepdiff" => code::stepdiff(ask, steps, explained),
        "stepcode" => code::stepcode(ask, steps, explained),
        "code" => code::code(ask, root),
        "svg" => picture::svg(ask, &root.join("book")),
        "draw" => picture::draw(ask),
        "run" => runs::show(ask, &root.join("book")),
        "predict" => marked::predict(ask, root),
        "questions" => marked::questions(ask, root),
        "progress" => marked::progress(ask, root),
        "timeline" => timeline::timeline(ask, &root.join("book")),
        other => bail!("there is no directive `{other}`"),
    }
    .with_context(|| format!("cannot answer `{}`", ask.name))
}

/// What keeps the chapters from explaining every step: steps without a chapter that are not listed
/// as unwritten, listed ones that have one, and lines that no chapter shows.
fn unexplained(
    steps: &[Step],
    chapters: &[String],
    unwritten: &[String],
    explained: &Explained,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let name = &step.name;
        let written = chapters.iter().any(|path| path.starts_with(name.as_str()));
        match (written, unwritten.contains(name)) {
            (true, true) => problems.push(format!(
                "book/book.toml: {name} has a chapter, so `unwritten` must not name it"
            )),
            (false, false) => problems.push(format!(
                "book/src/SUMMARY.md: {name} has no chapter, and `unwritten` does not name it"
            )),
            (true, false) if i > 0 => problems.extend(explained.missing(&steps[i - 1], step)),
            _ => {}
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::tests::step;

    fn ladder() -> [Step; 2] {
        let old = step("step01", &[("src/train.rs", "fn train() {\n    run();\n}\n")]);
        let new = "fn train() {\n    run();\n    sync();\n    log();\n}\n";
        [old, step("step02", &[("src/train.rs", new)])]
    }

    fn problems(chapter: &str) -> Vec<String> {
        let (steps, mut explained) = (ladder(), Explained::default());
        let (_, mut problems) = expand(chapter, Path::new("."), &steps, &mut explained);
        let chapters = ["step01.md".to_owned(), "step02.md".to_owned()];
        problems.extend(unexplained(&steps, &chapters, &[], &explained));
        problems
    }

    #[test]
    fn a_chapter_that_shows_its_whole_diff_passes() {
        assert_eq!(problems("{{#stepdiff step01 step02 src/train.rs}}"), [""; 0]);
    }

    #[test]
    fn a_chapter_that_leaves_a_line_out_fails() {
        let found = problems("{{#stepcode step02 src/train.rs from=\"sync()\" to=\"sync()\"}}");
        assert_eq!(found, ["step02/src/train.rs:4: no chapter shows this added line: log();"]);
        // A directive in a fence is an example and shows nothing.
        assert_eq!(problems("```\n{{#stepdiff step01 step02 src/train.rs}}\n```").len(), 2);
    }

    #[test]
    fn flags_are_marked_and_other_code_is_not() {
        let found = with_whole_flags("`--dp` and `--dp 2`, `a--b` or `--` alone");
        let dp = "<span class=\"flag\">`--dp`</span>";
        let alone = "<span class=\"flag\">`--`</span>";
        assert_eq!(found, format!("{dp} and `--dp 2`, `a--b` or {alone} alone"));
        assert_eq!(with_whole_flags("code that `--goes"), "code that `--goes");
    }

    #[test]
    fn mistakes_name_their_line() {
        let found = problems("text\n{{#stepdif step01 step02 src/train.rs}}\n");
        assert!(found[0].starts_with("2: {{#stepdif"), "{found:?}");
    }

    #[test]
    fn every_step_has_a_chapter_or_is_listed() {
        let steps = ladder();
        let lists = |chapters: &[&str], unwritten: &[&str]| {
            let own = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
            unexplained(&steps, &own(chapters), &own(unwritten), &Explained::default()).len()
        };
        assert_eq!(lists(&["step01.md"], &["step02"]), 0);
        assert_eq!(lists(&["step01.md"], &[]), 1, "step02 is missing");
        assert_eq!(lists(&["step01.md"], &["step01", "step02"]), 1, "step01 is not unwritten");
    }
}
