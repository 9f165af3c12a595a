//! Brings a lesson's files back, and shows theirs beside ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use console::style;

use crate::lesson::{self, Lesson};
use crate::repo::{self, Repo};
use crate::source::{Found, Source};
use crate::work::{Standing, Work};
use crate::{atomic, differ, keep, tokens, work};

/// `make solution`.
pub fn solution(step: Option<&str>) -> Result<()> {
    let repo = Repo::here()?;
    let lesson = lesson::find(&repo.root, step)?;
    let base = keep::base(&repo, &lesson)?;
    let work = Work::read(&repo, &lesson, &base)?;
    let ours = ours(&repo, &lesson, &work)?;
    if ours == work.theirs {
        keep::forget_base(&repo, &lesson)?;
        println!("{} is as the repository has it: there is nothing to bring back.", lesson.name);
        return Ok(());
    }
    let kept = keep::keep(&repo, &lesson, &base)?;
    let left = others(&repo, &lesson, &base, &ours)?;
    for (file, text) in &ours {
        let text = left.get(file).map(|(text, _)| text).or(text.as_ref());
        let path = repo.root.join(file);
        match text {
            Some(text) => atomic::write(&path, text.as_bytes())?,
            None if path.exists() => {
                fs::remove_file(&path).with_context(|| format!("removing {}", file.display()))?;
            }
            None => {}
        }
    }
    keep::forget_base(&repo, &lesson)?;
    show(&lesson, &work, &ours);
    println!("\n{} is solved: its files are ours again.", lesson.name);
    for (file, (_, names)) in &left {
        println!("{} keeps {}, of other lessons.", file.display(), names.join(", "));
    }
    if let Some(answer) = &lesson.answer {
        println!("The answer to this exercise is a later step: {}", answer.display());
    }
    if let Some(patch) = kept {
        let mut command = repo::git(&repo.root);
        let applies = repo::ended(command.args(["apply", "--check"]).arg(&patch)).is_ok();
        let three = if applies { "" } else { "--3way " };
        println!("Yours is kept in {}. To bring it back:", patch.display());
        println!("  git apply {three}{}", patch.display());
    }
    Ok(())
}

/// The files as they are to be: those of the base commit, or the reference of an exercise.
fn ours(repo: &Repo, lesson: &Lesson, work: &Work) -> Result<BTreeMap<PathBuf, Option<String>>> {
    let mut ours = work.ours.clone();
    for (from, to) in &lesson.reference {
        let text = work::text(&repo.root.join(from))?;
        let text = text.with_context(|| format!("the reference {} is missing", from.display()))?;
        ours.insert(to.clone(), Some(text));
    }
    Ok(ours)
}

/// Functions that another lesson has handed out in the same files: they stay as they are.
fn others(
    repo: &Repo,
    lesson: &Lesson,
    base: &str,
    ours: &BTreeMap<PathBuf, Option<String>>,
) -> Result<BTreeMap<PathBuf, (String, Vec<String>)>> {
    let mut left: BTreeMap<PathBuf, (String, Vec<String>)> = BTreeMap::new();
    for other in lesson::all(&repo.root)? {
        if other.name == lesson.name || other.files().is_disjoint(&lesson.files()) {
            continue;
        }
        let work = Work::read(repo, &other, base)?;
        for (function, standing) in &work.functions {
            let own = lesson.functions.iter().any(|it| it.name == function.name);
            let changed = [Standing::Unwritten, Standing::Theirs].contains(standing);
            let Some(Some(text)) = ours.get(&function.file) else { continue };
            if own || !changed {
                continue;
            }
            let entry = left.entry(function.file.clone());
            let (text, names) = entry.or_insert_with(|| (text.clone(), Vec::new()));
            let Some(theirs) = &work.theirs[&function.file] else { continue };
            let theirs = Source::parse(&function.file, theirs.clone())?;
            let source = Source::parse(&function.file, text.clone())?;
            if let (Some(from), Some(to)) =
                (theirs.function(&function.name)?, source.function(&function.name)?)
            {
                text.replace_range(to.whole(), theirs.slice(from.whole()));
                names.push(function.name.clone());
            }
        }
    }
    Ok(left)
}

/// Function by function, then what else was changed.
fn show(lesson: &Lesson, work: &Work, ours: &BTreeMap<PathBuf, Option<String>>) {
    println!("{} yours, {} ours", style("-").red(), style("+").green());
    for (file, ours) in ours {
        let theirs = work.theirs[file].clone().unwrap_or_default();
        let ours = ours.clone().unwrap_or_default();
        let parsed = Source::parse(file, theirs.clone());
        let names: Vec<_> = lesson.functions_of(file).map(|it| it.name.as_str()).collect();
        let (Ok(theirs), Ok(ours)) = (&parsed, Source::parse(file, ours.clone())) else {
            println!("\n{}", style(file.display()).bold());
            differ::print(&theirs, &ours);
            continue;
        };
        for name in &names {
            println!("\n{}", style(format!("{name}, {}", file.display())).bold());
            let found = theirs.function(name).ok().flatten();
            if found.is_some_and(|found| tokens::is_unwritten(found.block)) {
                println!("  not written; ours:");
                print!("{}", textwrap::indent(&of(&ours, name), "    "));
            } else if !differ::print(&of(theirs, name), &of(&ours, name)) {
                println!("  the same");
            }
        }
        let (theirs, ours) = (without(theirs, &names), without(&ours, &names));
        if theirs != ours {
            println!("\n{}", style(format!("{}, elsewhere", file.display())).bold());
            differ::print(&theirs, &ours);
        }
    }
}

fn of(source: &Source, name: &str) -> String {
    let found = source.function(name).ok().flatten();
    let text = |found: Found<'_>| {
        let whole = found.whole();
        format!("{}{}\n", source.indent(whole.start), source.slice(whole))
    };
    found.map(text).unwrap_or_default()
}

/// The file with the named functions' bodies taken out.
fn without(source: &Source, names: &[&str]) -> String {
    let mut text = source.text.clone();
    let found = names.iter().filter_map(|name| source.function(name).ok().flatten());
    let mut ranges: Vec<_> = found.map(|found| found.whole()).collect();
    ranges.sort_by_key(|range| std::cmp::Reverse(range.start));
    for range in ranges {
        text.replace_range(range, "…");
    }
    text
}
