//! Refuses a lesson that does not fit the repository, with a sentence that names what is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use syn::ReturnType;

use crate::lesson::{FOLDER, Function, Lesson};
use crate::repo::Repo;
use crate::source::Source;
use crate::{cargo, page, tokens, work};

/// The sentence for a function that is not there.
pub fn no_function(function: &Function) -> String {
    format!("function `{}` is not found in {}", function.name, function.file.display())
}

/// Test files of the workspace, by package and name.
pub struct Tests(BTreeMap<(String, String), PathBuf>);

impl Tests {
    /// Asks cargo.
    pub fn read(root: &Path) -> Result<Self> {
        let all = cargo::metadata(root)?;
        let mut tests = BTreeMap::new();
        for package in all["packages"].as_array().into_iter().flatten() {
            for target in package["targets"].as_array().into_iter().flatten() {
                let kinds = target["kind"].as_array();
                if kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "test")) {
                    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let key = (word(&package["name"]), word(&target["name"]));
                    tests.insert(key, PathBuf::from(word(&target["src_path"])));
                }
            }
        }
        Ok(Self(tests))
    }

    fn file(&self, package: &str, test: &str) -> Result<&Path> {
        let found = self.0.get(&(package.to_owned(), test.to_owned()));
        let all = || {
            let of = self.0.keys().filter(|(of, _)| of == package);
            of.map(|(_, test)| test.as_str()).collect::<Vec<_>>().join(", ")
        };
        match found {
            Some(file) => Ok(file),
            None if all().is_empty() => bail!("package `{package}` has no test files"),
            None => bail!("package `{package}` has no test file `{test}`; it has {}", all()),
        }
    }
}

/// Checks a lesson against the sources, the book and the tests.
pub fn check(repo: &Repo, lesson: &Lesson, tests: &Tests) -> Result<()> {
    all(repo, lesson, tests).with_context(|| format!("{FOLDER}/{}.toml", lesson.name))
}

fn all(repo: &Repo, lesson: &Lesson, tests: &Tests) -> Result<()> {
    if lesson.functions.is_empty() == lesson.starter.is_empty() {
        bail!("a lesson has either [[function]]s or a `starter`");
    }
    if lesson.has_starter() && lesson.reference.is_empty() == lesson.answer.is_none() {
        bail!("a lesson with a `starter` has either a `reference` or an `answer`");
    }
    if lesson.cases.is_empty() {
        bail!("a lesson has at least one [[test]]");
    }
    page::check(&repo.root, &lesson.page.replace(".md", ".html"))?;
    for function in &lesson.functions {
        written(repo, function)?;
        page::check(&repo.root, &function.section)
            .with_context(|| format!("function `{}`", function.name))?;
        if function.contract.trim().is_empty() {
            bail!("function `{}`: its contract is empty", function.name);
        }
    }
    let files = lesson.starter.iter().chain(&lesson.reference).map(|(from, _)| from);
    for file in files.chain(&lesson.answer) {
        if !repo.root.join(file).exists() {
            bail!("there is no {}", file.display());
        }
    }
    cases(repo, lesson, tests)?;
    for (package, test) in &lesson.suite {
        tests.file(package, test).context("suite")?;
    }
    Ok(())
}

/// The function is there, in HEAD and in one place, and a `todo!()` can stand for its body.
fn written(repo: &Repo, function: &Function) -> Result<()> {
    let file = &function.file;
    let text = repo.show("HEAD", file)?;
    let text = text.with_context(|| format!("there is no file {}", file.display()))?;
    let source = Source::parse(file, String::from_utf8_lossy(&text).into_owned())?;
    let found = source.function(&function.name)?;
    let Some(found) = found else {
        let all = source.functions().into_iter().flat_map(|(names, _)| names);
        let all = all.collect::<Vec<_>>().join(", ");
        bail!("{}; it has {all}", no_function(function));
    };
    if let ReturnType::Type(_, result) = &found.signature.output
        && tokens::meaning(result).split(' ').next() == Some("impl")
    {
        bail!(
            "function `{}` returns an `impl`, in whose place no todo!() can stand",
            function.name
        );
    }
    Ok(())
}

fn cases(repo: &Repo, lesson: &Lesson, tests: &Tests) -> Result<()> {
    let file = tests.file(&lesson.package, &lesson.tests)?;
    let text = work::text(file)?.with_context(|| format!("there is no {}", file.display()))?;
    let source = Source::parse(file, text)?;
    let mut known = Vec::new();
    for (names, found) in source.functions() {
        if found.attributes.iter().any(|it| it.path().is_ident("test")) {
            known.extend(names);
        }
    }
    let declared = declared(repo, lesson)?;
    for case in &lesson.cases {
        // Of a test in a module, the last word is its function.
        let word = case.name.rsplit("::").next().unwrap_or(&case.name);
        if !known.iter().any(|name| name == word) {
            let file = file.strip_prefix(&repo.root).unwrap_or(file);
            bail!("test `{}` is not in {}", case.name, file.display());
        }
        for name in &case.functions {
            if !declared.contains(name) {
                bail!("test `{}`: `{name}` is none of the lesson's functions", case.name);
            }
        }
        page::check(&repo.root, &case.section).with_context(|| format!("test `{}`", case.name))?;
    }
    Ok(())
}

/// The functions that a test may name.
fn declared(repo: &Repo, lesson: &Lesson) -> Result<Vec<String>> {
    let mut names: Vec<_> = lesson.functions.iter().map(|it| it.name.clone()).collect();
    for (from, _) in &lesson.starter {
        let text = work::text(&repo.root.join(from))?.unwrap_or_default();
        names.extend(Source::parse(from, text)?.functions().into_iter().flat_map(|it| it.0));
    }
    Ok(names)
}
