//! A clean clone of HEAD, in which submissions are built. It lives in the target folder and is used again, so that
//! only what a submission changes is compiled.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo::{self, Place};
use crate::repo::{self, Repo};

pub struct Clean {
    pub place: Place,
    /// The clone's copy of the course.
    pub repo: Repo,
    /// The commit that it is a clone of.
    pub commit: String,
    is_inside: bool,
    /// Held, so that nobody else grades in it.
    _lock: File,
}

/// Makes the clone, or makes it clean again.
pub fn clean(repo: &Repo) -> Result<Clean> {
    let workspace = Workspace::read(&repo.root)?;
    let home = workspace.target.join("grade");
    fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let lock = File::create(home.join("lock"))?;
    if lock.try_lock().is_err() {
        bail!("somebody else is grading in {}: wait for its end", home.display());
    }
    let top = home.join("clone");
    let commit = repo.head()?;
    let from = repo.git(["rev-parse", "--show-toplevel"])?;
    if repo::ended(repo::git(&home).args(["-C", "clone", "rev-parse", "--git-dir"])).is_err() {
        let _ = fs::remove_dir_all(&top);
        let words = ["clone", "--quiet", "--local", "--no-checkout", "--", &from, "clone"];
        repo::ended(repo::git(&home).args(words))?;
    }
    let git = |words: &[&str]| repo::ended(repo::git(&top).args(words)).map(drop);
    git(&["fetch", "--quiet", "--no-tags", &from, &commit])?;
    git(&["checkout", "--quiet", "--force", "--detach", &commit])?;
    let below = repo.git(["rev-parse", "--show-prefix"])?;
    let root = top.join(&below);
    let (target, libtorch) = (format!("/{below}target"), format!("/{below}.libtorch"));
    git(&["clean", "--quiet", "-ffdx", "-e", &target, "-e", &libtorch])?;
    let library = repo.root.join(".libtorch");
    if library.exists() && !root.join(".libtorch").exists() {
        std::os::unix::fs::symlink(&library, root.join(".libtorch"))?;
    }
    if !root.join("target").exists() {
        workspace.seed(&root.join("target")).context("copying what is compiled already")?;
    }
    let torch = library.join("torch");
    let is_given = std::env::var_os("LIBTORCH").is_some() || !torch.exists();
    let variables = if is_given { vec![] } else { vec![("LIBTORCH".to_owned(), torch)] };
    let place = Place { root: root.clone(), target: Some(root.join("target")), variables };
    let is_inside = root.starts_with(&repo.root);
    let clean = Clean { place, repo: Repo { root }, commit, is_inside, _lock: lock };
    clean.reset()?;
    Ok(clean)
}

impl Clean {
    /// Every file as the commit has it.
    pub fn reset(&self) -> Result<()> {
        let root = &self.repo.root;
        repo::ended(repo::git(root).args(["reset", "--quiet", "--hard", &self.commit]))?;
        // The clone is inside the checkout, whose settings cargo finds too. Read twice, they would
        // be other flags, and everything would be compiled anew.
        if self.is_inside {
            let _ = fs::remove_dir_all(root.join(".cargo"));
        }
        Ok(())
    }
}

/// What cargo says of the checkout.
struct Workspace {
    target: PathBuf,
    /// The names of its packages and of all that they build.
    own: BTreeSet<String>,
}

impl Workspace {
    fn read(root: &Path) -> Result<Self> {
        let all = cargo::metadata(root)?;
        let target = all["target_directory"].as_str().context("cargo names no target folder")?;
        let mut own = BTreeSet::new();
        for package in all["packages"].as_array().into_iter().flatten() {
            let targets = package["targets"].as_array().into_iter().flatten();
            for named in targets.chain([package]) {
                own.insert(named["name"].as_str().unwrap_or_default().replace('-', "_"));
            }
        }
        Ok(Self { target: target.into(), own })
    }

    /// Other people's crates are taken as they were compiled for the checkout. Ours are not: they
    /// may have been compiled from changed files.
    fn seed(&self, to: &Path) -> Result<()> {
        let from = self.target.join("debug");
        let to = to.join("debug");
        // The records last of all in the order of time: what has one is complete.
        for folder in [".fingerprint", "build", "deps"] {
            let Ok(entries) = fs::read_dir(from.join(folder)) else { continue };
            fs::create_dir_all(to.join(folder))?;
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if !self.is_own(&name) {
                    copy(&entry.path(), &to.join(folder).join(&name), folder == "deps")?;
                }
            }
        }
        Ok(())
    }

    /// Whether `libstep03-0123456789abcdef.rlib` or `step03-0123456789abcdef` is one of ours.
    fn is_own(&self, name: &str) -> bool {
        let Some((name, _)) = name.rsplit_once('-') else { return true };
        let name = name.replace('-', "_");
        let short = name.strip_prefix("lib").unwrap_or(&name);
        self.own.contains(&name) || self.own.contains(short)
    }
}

fn copy(from: &Path, to: &Path, can_link: bool) -> Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()), can_link)?;
        }
    } else if kind.is_file() {
        // The compiler replaces libraries, and never writes into one; lists of files it does.
        let is_list = from.extension().is_none_or(|extension| extension == "d");
        if !can_link || is_list || fs::hard_link(from, to).is_err() {
            fs::copy(from, to)?;
            // Cargo goes by these times.
            let time = fs::metadata(from)?.modified()?;
            File::options().write(true).open(to)?.set_modified(time)?;
        }
    }
    Ok(())
}
