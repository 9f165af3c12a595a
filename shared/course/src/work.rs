//! How far the working tree is: which functions are ours, unwritten, or the learner's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lesson::{Function, Lesson};
use crate::repo::Repo;
use crate::source::Source;
use crate::tokens;

/// What stands in the place of a lesson's function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// To the last byte what the repository has.
    Ours,
    /// A `todo!()` is in it.
    Unwritten,
    /// Written, by the learner.
    Theirs,
    /// The file has no such function, or cannot be read.
    Lost,
}

/// The lesson's files, and the standing of each function, in the lesson's order.
pub struct Work {
    pub functions: Vec<(Function, Standing)>,
    /// As the base commit has them; `None` where it has no such file.
    pub ours: BTreeMap<PathBuf, Option<String>>,
    /// As they are; `None` where there is none.
    pub theirs: BTreeMap<PathBuf, Option<String>>,
    /// What is wrong with a file that cannot be parsed.
    pub broken: BTreeMap<PathBuf, String>,
}

impl Work {
    pub fn read(repo: &Repo, lesson: &Lesson, base: &str) -> Result<Self> {
        let (mut ours, mut theirs) = (BTreeMap::new(), BTreeMap::new());
        let mut broken = BTreeMap::new();
        let mut parsed = BTreeMap::new();
        for file in lesson.files() {
            let text = text(&repo.root.join(&file))?;
            if let Some(text) = &text {
                match Source::parse(&file, text.clone()) {
                    Ok(source) => drop(parsed.insert(file.clone(), source)),
                    Err(error) => drop(broken.insert(file.clone(), format!("{error:#}"))),
                }
            }
            let of_base = repo.show(base, &file)?;
            let of_base = of_base.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            ours.insert(file.clone(), of_base);
            theirs.insert(file, text);
        }
        let mut functions = Vec::new();
        for function in &lesson.functions {
            let ours = ours[&function.file].clone().map(|text| Source::parse(&function.file, text));
            let theirs = parsed.get(&function.file);
            let standing = standing(function, ours.transpose()?.as_ref(), theirs);
            functions.push((function.clone(), standing));
        }
        Ok(Self { functions, ours, theirs, broken })
    }

    /// Whether nothing has been handed out: all of it is as the repository has it.
    pub fn is_ours(&self) -> bool {
        let functions = self.functions.iter().all(|(_, it)| *it == Standing::Ours);
        functions && (!self.functions.is_empty() || self.ours == self.theirs)
    }

    pub fn standing(&self, name: &str) -> Option<Standing> {
        let named = self.functions.iter().find(|(function, _)| function.name == name);
        named.map(|(_, standing)| *standing)
    }

    /// Functions that still hold a `todo!()`: the lesson's, or any of a file that was handed out
    /// whole.
    pub fn unwritten(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (function, standing) in &self.functions {
            if *standing == Standing::Unwritten {
                names.push(function.name.clone());
            }
        }
        if !self.functions.is_empty() {
            return names;
        }
        for (file, text) in &self.theirs {
            let Some(text) = text else { continue };
            let Ok(source) = Source::parse(file, text.clone()) else { continue };
            for (named, found) in source.functions() {
                if tokens::is_unwritten(found.block) {
                    names.extend(named);
                }
            }
        }
        names
    }
}

fn standing(function: &Function, ours: Option<&Source>, theirs: Option<&Source>) -> Standing {
    let found = |source: &Source| {
        let found = source.function(&function.name).ok().flatten()?;
        let text = source.slice(found.whole()).to_owned();
        Some((tokens::is_unwritten(found.block), text))
    };
    let Some((is_unwritten, text)) = theirs.and_then(found) else { return Standing::Lost };
    if is_unwritten {
        return Standing::Unwritten;
    }
    let is_ours = ours.and_then(found).is_some_and(|(_, ours)| ours == text);
    if is_ours { Standing::Ours } else { Standing::Theirs }
}

/// The text of a file, if there is one.
pub fn text(path: &Path) -> Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes);
            text.map(Some).with_context(|| format!("{} is not UTF-8 text", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}
