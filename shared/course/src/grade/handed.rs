//! Sorts what was handed in: the lessons' files, and the rest, which nobody looks at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::clean::Clean;
use super::submission::{self, Content, Submission};
use crate::lesson::Lesson;
use crate::{repo, work};

/// The texts handed in for the files of lessons, and the paths of everything else.
pub struct Handed {
    pub texts: BTreeMap<PathBuf, String>,
    pub ignored: Vec<PathBuf>,
}

/// Sorts what was handed in.
pub fn sort(clean: &Clean, lessons: &[Lesson], submission: &Submission) -> Result<Handed> {
    let wanted: BTreeSet<PathBuf> = lessons.iter().flat_map(Lesson::files).collect();
    match &submission.content {
        Content::Patch(patch) => patched(clean, &wanted, patch),
        Content::Files(files) => {
            let mut texts = BTreeMap::new();
            let (mut taken, mut prefix) = (BTreeSet::new(), PathBuf::new());
            for want in &wanted {
                if let Some((path, bytes)) = submission::pick(files, want, wanted.len() == 1)? {
                    let text = String::from_utf8(bytes.to_vec());
                    let text = text.with_context(|| format!("{} is not text", path.display()))?;
                    texts.insert(want.clone(), text);
                    taken.insert(path.to_owned());
                    let depth = path.components().count().saturating_sub(want.components().count());
                    prefix = path.components().take(depth).collect();
                }
            }
            // What is the same as ours needs no word.
            let differs = |path: &&PathBuf| {
                let ours = path.strip_prefix(&prefix).map(|path| clean.repo.root.join(path));
                !ours.is_ok_and(|ours| fs::read(ours).is_ok_and(|ours| ours == files[*path]))
            };
            let rest = files.keys().filter(|path| !taken.contains(*path));
            Ok(Handed { texts, ignored: rest.filter(differs).cloned().collect() })
        }
    }
}

/// The lesson files as a patch leaves them. It is applied in the clone, to these files only.
fn patched(clean: &Clean, wanted: &BTreeSet<PathBuf>, patch: &Path) -> Result<Handed> {
    let root = &clean.repo.root;
    let numbers = repo::ended(repo::git(root).args(["apply", "--numstat", "-z"]).arg(patch));
    let numbers = numbers.with_context(|| format!("{} is no patch", patch.display()))?;
    let numbers = String::from_utf8_lossy(&numbers.stdout).into_owned();
    let paths = numbers.split('\0').filter_map(|line| line.rsplit('\t').next());
    let paths: BTreeSet<PathBuf> = paths.filter(|it| !it.is_empty()).map(PathBuf::from).collect();
    let files: Vec<_> = paths.intersection(wanted).cloned().collect();
    let ignored = paths.difference(wanted).cloned().collect();
    let mut texts = BTreeMap::new();
    if files.is_empty() {
        return Ok(Handed { texts, ignored });
    }
    let applied = [&[][..], &["--3way"][..]].into_iter().any(|way| {
        let include = files.iter().map(|file| format!("--include={}", file.display()));
        let mut command = repo::git(root);
        command.arg("apply").args(way).args(include).arg(patch);
        repo::ended(&mut command).is_ok()
    });
    for file in &files {
        let path = root.join(file);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|it| it.is_file());
        if let Some(text) = if is_file { work::text(&path)? } else { None } {
            texts.insert(file.clone(), text);
        }
    }
    clean.reset()?;
    if !applied {
        bail!(
            "{} does not fit commit {}",
            patch.display(),
            &clean.commit[..9.min(clean.commit.len())]
        );
    }
    Ok(Handed { texts, ignored })
}
