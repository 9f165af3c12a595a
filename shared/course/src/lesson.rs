//! The format of a lesson, `book/lessons/NAME.toml`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Where lessons are, below the root of the repository.
pub const FOLDER: &str = "book/lessons";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lesson {
    /// The file's name without `.toml`: what STEP names.
    #[serde(skip)]
    pub name: String,
    pub title: String,
    /// The chapter, a file in `book/src`.
    pub page: String,
    /// The package of the tests, and the test file in it.
    pub package: String,
    pub tests: String,
    /// Package and test file of whole suites, which run once every test of the lesson is green.
    #[serde(default)]
    pub suite: Vec<(String, String)>,
    /// What the learner writes.
    #[serde(default, rename = "function")]
    pub functions: Vec<Function>,
    /// From the easiest to the hardest: the first red one is the cause of those below it.
    #[serde(default, rename = "test")]
    pub cases: Vec<Case>,
    /// Whole files that are handed out: `[from, to]`.
    #[serde(default)]
    pub starter: Vec<(PathBuf, PathBuf)>,
    /// The files that solve them, `[from, to]`.
    #[serde(default)]
    pub reference: Vec<(PathBuf, PathBuf)>,
    /// Where the solution is read, if a later step is the answer.
    #[serde(default)]
    pub answer: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    pub file: PathBuf,
    /// `function`, `Type::function` or `Trait for Type::function`.
    pub name: String,
    pub points: u32,
    /// `page.html#section`.
    pub section: String,
    pub contract: String,
    #[serde(default)]
    pub hints: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    /// Names of the functions that it is about.
    #[serde(default)]
    pub functions: Vec<String>,
    pub points: u32,
    pub section: String,
    /// What it means if this is the first red one.
    pub red: String,
    /// After so many seconds without an end, it is red.
    pub seconds: Option<u64>,
}

impl Lesson {
    /// Reads one lesson.
    fn read(file: &Path) -> Result<Self> {
        let shown = file.file_name().unwrap_or_default().to_string_lossy();
        let shown = format!("{FOLDER}/{shown}");
        let text = fs::read_to_string(file).with_context(|| format!("reading {shown}"))?;
        let mut lesson: Self = toml::from_str(&text).with_context(|| format!("in {shown}"))?;
        lesson.name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(lesson)
    }

    /// Every file that a learner of this lesson changes, relative to the root.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let written = self.functions.iter().map(|function| function.file.clone());
        written.chain(self.starter.iter().map(|(_, to)| to.clone())).collect()
    }

    /// Whether whole files are handed out.
    pub fn has_starter(&self) -> bool {
        !self.starter.is_empty()
    }

    /// All that can be reached.
    pub fn points(&self) -> u32 {
        let functions = self.functions.iter().map(|function| function.points);
        functions.chain(self.cases.iter().map(|case| case.points)).sum()
    }

    /// The functions of one file.
    pub fn functions_of<'a>(&'a self, file: &'a Path) -> impl Iterator<Item = &'a Function> {
        self.functions.iter().filter(move |function| function.file == file)
    }
}

/// Every lesson, by name.
pub fn all(root: &Path) -> Result<Vec<Lesson>> {
    let folder = root.join(FOLDER);
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {FOLDER}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    files.iter().map(|file| Lesson::read(file)).collect()
}

/// The lesson called `name`, or a sentence that lists those there are.
pub fn find(root: &Path, name: Option<&str>) -> Result<Lesson> {
    let names = || -> Result<String> {
        let lessons = all(root)?;
        Ok(lessons.iter().map(|lesson| lesson.name.as_str()).collect::<Vec<_>>().join(", "))
    };
    let Some(name) = name else { bail!("no STEP is given: name one of {}", names()?) };
    let file = root.join(FOLDER).join(format!("{name}.toml"));
    // A name, not a path.
    let is_name = !name.contains(['/', '\\']) && name != "..";
    if !is_name || !file.is_file() {
        bail!("STEP={name}: there is no such lesson; there are {}", names()?);
    }
    Lesson::read(&file)
}
