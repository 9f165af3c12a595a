//! The repository, through `git`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::lesson::FOLDER;

/// A checkout of the course.
pub struct Repo {
    pub root: PathBuf,
}

impl Repo {
    /// The nearest folder above this one that has lessons.
    pub fn here() -> Result<Self> {
        let here = std::env::current_dir()?;
        let root = here.ancestors().find(|folder| folder.join(FOLDER).is_dir());
        let root = root.with_context(|| {
            format!("run this inside the repository: {} has no {FOLDER} above it", here.display())
        })?;
        let repo = Self { root: root.to_owned() };
        repo.git(["rev-parse", "--verify", "HEAD"]).with_context(|| {
            "the course needs its git repository, to keep your work and to bring solutions back: \
             clone it, an archive of the files does not do"
        })?;
        Ok(repo)
    }

    /// What a git command prints.
    pub fn git<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, words: I) -> Result<String> {
        let mut command = git(&self.root);
        command.args(words);
        Ok(String::from_utf8_lossy(&ended(&mut command)?.stdout).trim_end().to_owned())
    }

    /// The commit that HEAD is, on a branch or not.
    pub fn head(&self) -> Result<String> {
        self.git(["rev-parse", "HEAD"])
    }

    /// A file as a commit has it.
    pub fn show(&self, commit: &str, file: &Path) -> Result<Option<Vec<u8>>> {
        let mut command = git(&self.root);
        command.args(["ls-tree", "-z", "--name-only", commit, "--"]).arg(file);
        if ended(&mut command)?.stdout.is_empty() {
            return Ok(None);
        }
        let mut command = git(&self.root);
        // `./`: relative to this folder, should the course be part of a larger repository.
        command.arg("show").arg(format!("{commit}:./{}", file.display()));
        Ok(Some(ended(&mut command)?.stdout))
    }

    /// What turns the files of `commit` into those of the working tree, new ones included; empty
    /// if they are the same. The index is left as it is.
    pub fn patch(&self, commit: &str, files: &BTreeSet<PathBuf>) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir()?;
        let index = folder.path().join("index");
        let git = || {
            let mut command = git(&self.root);
            command.env("GIT_INDEX_FILE", &index);
            command
        };
        ended(git().args(["read-tree", commit]))?;
        for file in files {
            // A file that was deleted is taken out of the index.
            let words = match self.root.join(file).exists() {
                true => ["add", "--force", "--"],
                false => ["rm", "--cached", "--ignore-unmatch"],
            };
            ended(git().args(words).arg(file))?;
        }
        let words = ["diff", "--cached", "--binary", "--no-color", "--no-ext-diff", "--relative"];
        Ok(ended(git().args(words).args([commit, "--"]).args(files))?.stdout)
    }
}

/// `git` in a folder, whoever owns the checkout, as in a container.
pub fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "safe.directory=*", "-c", "core.quotepath=off"]);
    // Set by git itself inside a hook; they would name another repository.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs it; what it writes to standard error becomes the error.
pub fn ended(command: &mut Command) -> Result<Output> {
    let output = command.output().context("git cannot be started: is it installed?")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("fatal: ").trim_start_matches("error: ");
        let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let word = words.iter().find(|word| !word.starts_with('-') && !word.contains('='));
        bail!("git {}: {said}", word.map_or("", |word| word));
    }
    Ok(output)
}
