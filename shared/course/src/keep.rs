//! `.course/`: a learner's work as numbered patches, and the commit that a lesson was handed out from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::atomic;
use crate::lesson::Lesson;
use crate::repo::Repo;
use crate::source::Source;
use crate::tokens;

/// The folder, which git ignores.
pub const FOLDER: &str = ".course";

/// Keeps everything in the lesson's files that differs from `base`. `None` if nothing does, or
/// if the newest patch says the same already.
pub fn keep(repo: &Repo, lesson: &Lesson, base: &str) -> Result<Option<PathBuf>> {
    let patch = repo.patch(base, &lesson.files())?;
    if patch.is_empty() {
        return Ok(None);
    }
    let newest = number(&repo.root.join(FOLDER), &lesson.name)?;
    let file = |number: usize| Path::new(FOLDER).join(format!("{}-{number}.patch", lesson.name));
    if newest > 0 && fs::read(repo.root.join(file(newest))).is_ok_and(|old| old == patch) {
        return Ok(Some(file(newest)));
    }
    let mut next = newest + 1;
    while !atomic::create(&repo.root.join(file(next)), &patch)? {
        next += 1; // somebody else's, a moment ago
    }
    Ok(Some(file(next)))
}

/// The highest number of a patch.
fn number(folder: &Path, name: &str) -> Result<usize> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(0) };
    let mut highest = 0;
    for entry in entries {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let digits = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        let digits = digits.and_then(|rest| rest.strip_suffix(".patch"));
        highest = highest.max(digits.and_then(|it| it.parse().ok()).unwrap_or(0));
    }
    Ok(highest)
}

/// The commit whose functions are the solution: the one that was noted when the lesson was handed
/// out, else HEAD, else the newest before it that has them written: a learner may have
/// committed a step with its `todo!()`s.
pub fn base(repo: &Repo, lesson: &Lesson) -> Result<String> {
    let head = repo.head()?;
    if let Ok(noted) = fs::read_to_string(note(repo, lesson)) {
        let noted = noted.trim().to_owned();
        let there = format!("{noted}^{{commit}}");
        if repo.git(["cat-file", "-e", there.as_str()]).is_ok() && is_written(repo, lesson, &noted)?
        {
            return Ok(noted);
        }
    }
    if is_written(repo, lesson, &head)? {
        return Ok(head);
    }
    let mut words = vec!["log".into(), "--format=%H".into(), "--max-count=200".into(), head];
    words.push("--".to_owned());
    words.extend(lesson.files().iter().map(|file| file.display().to_string()));
    for commit in repo.git(words)?.lines() {
        if is_written(repo, lesson, commit)? {
            return Ok(commit.to_owned());
        }
    }
    let files: Vec<_> = lesson.files().iter().map(|file| file.display().to_string()).collect();
    anyhow::bail!("no commit has all functions of {} written, in {}", lesson.name, files.join(", "))
}

/// Notes the commit that a lesson was handed out from.
pub fn note_base(repo: &Repo, lesson: &Lesson, base: &str) -> Result<()> {
    atomic::write(&note(repo, lesson), format!("{base}\n").as_bytes())
}

/// The lesson is no longer handed out.
pub fn forget_base(repo: &Repo, lesson: &Lesson) -> Result<()> {
    match fs::remove_file(note(repo, lesson)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", note(repo, lesson).display()))
        }
        _ => Ok(()),
    }
}

fn note(repo: &Repo, lesson: &Lesson) -> PathBuf {
    repo.root.join(FOLDER).join(format!("{}.base", lesson.name))
}

/// Whether a commit has every function of the lesson, without a `todo!()`.
fn is_written(repo: &Repo, lesson: &Lesson, commit: &str) -> Result<bool> {
    for function in &lesson.functions {
        let Some(text) = repo.show(commit, &function.file)? else { return Ok(false) };
        let text = String::from_utf8_lossy(&text).into_owned();
        let Ok(source) = Source::parse(&function.file, text) else { return Ok(false) };
        match source.function(&function.name) {
            Ok(Some(found)) if !tokens::is_unwritten(found.block) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}
