//! Hands a lesson out: its functions' bodies become `todo!()`, with the contract in words.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::lesson::{self, Lesson};
use crate::repo::Repo;
use crate::source::Source;
use crate::stub::{self, points};
use crate::work::{self, Standing, Work};
use crate::{atomic, keep, valid};

/// `make learn`. With `again`, what is handed out already is handed out anew.
pub fn learn(step: Option<&str>, again: bool) -> Result<()> {
    let repo = Repo::here()?;
    let lesson = lesson::find(&repo.root, step)?;
    let base = keep::base(&repo, &lesson)?;
    let work = Work::read(&repo, &lesson, &base)?;
    if !work.is_ours() && !again {
        println!("{} is handed out already. Nothing was changed.", lesson.name);
        list(&lesson, &work);
        println!(
            "Go on: make check STEP={0}. To begin anew: make learn STEP={0} AGAIN=1",
            lesson.name
        );
        println!("(what you have written is kept as a patch first).");
        return Ok(());
    }
    let new = match lesson.has_starter() {
        true => starter(&repo, &lesson)?,
        false => handed_out(&repo, &lesson, &work)?,
    };
    // All texts are made before the first file is touched.
    let kept = keep::keep(&repo, &lesson, &base)?;
    keep::note_base(&repo, &lesson, &base)?;
    for (file, text) in &new {
        atomic::write(&repo.root.join(file), text.as_bytes())?;
    }
    let name = &lesson.name;
    println!("Handed out: {name}, {}. {} to reach.", lesson.title, points(lesson.points()));
    list(&lesson, &Work::read(&repo, &lesson, &base)?);
    if let Some(patch) = kept {
        println!("\nWhat you had in these files is kept in {}. To bring it back:", patch.display());
        println!("  make solution STEP={name} && git apply {}", patch.display());
    }
    println!("\nEach of them says what to write. Then: make check STEP={name}");
    Ok(())
}

/// Every file of the lesson with all its functions handed out.
fn handed_out(
    repo: &Repo,
    lesson: &Lesson,
    work: &Work,
) -> Result<Vec<(std::path::PathBuf, String)>> {
    let mut new = Vec::new();
    for file in lesson.files() {
        let functions: Vec<_> = lesson.functions_of(&file).collect();
        let is_lost = work
            .functions
            .iter()
            .any(|(function, standing)| function.file == file && *standing == Standing::Lost);
        // What else the learner changed in the file stays, as long as the functions are there.
        let text = if is_lost { &work.ours[&file] } else { &work.theirs[&file] };
        let mut text = text.clone().with_context(|| format!("{} is missing", file.display()))?;
        for function in functions {
            let source = Source::parse(&file, text)?;
            let found = source.function(&function.name)?;
            let found = found.with_context(|| valid::no_function(function))?;
            text = stub::hand_out(&source, found, lesson, function);
        }
        if let Err(error) = Source::parse(&file, text.clone()) {
            bail!("{} cannot be handed out: {error:#}", repo.root.join(&file).display());
        }
        new.push((file, text));
    }
    Ok(new)
}

/// The whole files of a building exercise.
fn starter(repo: &Repo, lesson: &Lesson) -> Result<Vec<(std::path::PathBuf, String)>> {
    let mut new = Vec::new();
    for (from, to) in &lesson.starter {
        let text = work::text(&repo.root.join(from))?;
        let text = text.with_context(|| format!("the starter {} is missing", from.display()))?;
        new.push((to.clone(), text));
    }
    Ok(new)
}

fn list(lesson: &Lesson, work: &Work) {
    let wide = work.functions.iter().map(|(it, _)| it.name.len()).max().unwrap_or(0);
    for (function, standing) in &work.functions {
        let standing = match standing {
            Standing::Ours => "as the repository has it",
            Standing::Unwritten => "to write",
            Standing::Theirs => "yours",
            Standing::Lost => "not found",
        };
        let at = place(&function.file, work, &function.name);
        let (name, points) = (&function.name, points(function.points));
        println!("  {name:wide$}  {points:9}  {standing}: {at}");
    }
    for (_, to) in &lesson.starter {
        println!("  {}", to.display());
    }
    for why in work.broken.values() {
        println!("  {why}");
    }
}

/// `file:line` of a function.
fn place(file: &Path, work: &Work, name: &str) -> String {
    let text = work.theirs.get(file).cloned().flatten();
    let source = text.and_then(|text| Source::parse(file, text).ok());
    let line = source.and_then(|it| it.function(name).ok().flatten().map(|found| found.line()));
    line.map_or(file.display().to_string(), |line| format!("{}:{line}", file.display()))
}
