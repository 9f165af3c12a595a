//! `make grade`: what was handed in, laid over a clean clone and tested there.

mod clean;
mod found;
mod handed;
mod report;
mod score;
mod submission;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::lesson::{self, Lesson};
use crate::process::Runner;
use crate::repo::Repo;
use crate::work;
use clean::Clean;
use submission::Submission;

#[derive(Args)]
pub struct Grade {
    /// A folder, an archive (.tar.gz, .tgz, .tar, .zip), a patch (.patch, .diff) or one file (.rs)
    submission: PathBuf,
    /// Grade this lesson only; otherwise every lesson in whose files something differs
    #[arg(long)]
    step: Option<String>,
    /// Where results are written, instead of grade-NAME
    #[arg(long)]
    out: Option<PathBuf>,
    /// The path is a folder of submissions: grade each of them, and write a table
    #[arg(long)]
    each: bool,
    /// Leave out the whole suites that follow the tests of a lesson
    #[arg(long)]
    no_suite: bool,
    /// How many seconds a test may take, instead of 60
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
}

impl Grade {
    /// Whether all is green.
    pub fn run(&self) -> Result<bool> {
        let repo = Repo::here()?;
        let lessons = match &self.step {
            Some(step) => vec![lesson::find(&repo.root, Some(step))?],
            None => lesson::all(&repo.root)?,
        };
        let submissions = self.submissions()?;
        let runner = Runner::new()?;
        let clean = clean::clean(&repo)?;
        let mut grades = Vec::new();
        for path in &submissions {
            let graded = Submission::read(path).and_then(|submission| {
                let grade = self.one(&runner, &clean, &lessons, &submission)?;
                let out = self.out(&submission.name);
                report::write(&grade, &out)?;
                report::table(&grade, &out);
                Ok(grade)
            });
            match graded {
                Ok(grade) => grades.push(grade),
                // The others are graded all the same.
                Err(error) if self.each => {
                    eprintln!("{}: {error:#}", path.display());
                    grades.push(found::Grade::unread(path, &format!("{error:#}")));
                }
                Err(error) => return Err(error),
            }
        }
        if self.each {
            report::csv(&grades, self.out.as_deref().unwrap_or(Path::new(".")))?;
        }
        Ok(grades.iter().all(found::Grade::is_green))
    }

    fn submissions(&self) -> Result<Vec<PathBuf>> {
        if !self.each {
            return Ok(vec![self.submission.clone()]);
        }
        let shown = self.submission.display();
        let entries = fs::read_dir(&self.submission);
        let entries = entries.with_context(|| format!("SUBMISSIONS={shown} cannot be read"))?;
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with('.') {
                all.push(entry.path());
            }
        }
        all.sort();
        if all.is_empty() {
            bail!("SUBMISSIONS={shown}: the folder is empty");
        }
        Ok(all)
    }

    fn out(&self, name: &str) -> PathBuf {
        match &self.out {
            Some(out) if self.each => out.join(format!("grade-{name}")),
            Some(out) => out.clone(),
            None => PathBuf::from(format!("grade-{name}")),
        }
    }

    fn one(
        &self,
        runner: &Runner,
        clean: &Clean,
        lessons: &[Lesson],
        submission: &Submission,
    ) -> Result<found::Grade> {
        let handed = handed::sort(clean, lessons, submission)?;
        let mut chosen = Vec::new();
        for lesson in lessons {
            let mut differs = false;
            for file in lesson.files() {
                let ours = work::text(&clean.repo.root.join(&file))?;
                let theirs = handed.texts.get(&file);
                differs |= theirs.is_some() && (theirs != ours.as_ref() || self.step.is_some());
            }
            if differs {
                chosen.push(lesson);
            }
        }
        if chosen.is_empty() {
            let names: Vec<_> = lessons.iter().map(|lesson| lesson.name.as_str()).collect();
            bail!(
                "{}: no file of a lesson ({}) in it differs from the repository's; STEP=… grades one that does not",
                submission.name,
                names.join(", ")
            );
        }
        let mut grade = found::Grade::new(submission, clean, &handed.ignored);
        let options = score::Options { seconds: self.seconds, has_suite: !self.no_suite };
        for lesson in chosen {
            grade.add(score::score(runner, clean, lesson, &handed, &options)?);
        }
        Ok(grade)
    }
}
