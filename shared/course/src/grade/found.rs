//! What a grading found.

use std::path::Path;

use serde::Serialize;

use super::clean::Clean;
use super::submission::Submission;
use crate::lesson::{Case, Lesson};
use crate::suite::Suite;

/// `grade.json`.
#[derive(Serialize)]
pub struct Grade {
    pub submission: String,
    /// The commit over which it was laid.
    pub commit: String,
    pub points: u32,
    pub of: u32,
    pub lessons: Vec<Graded>,
    /// Files that were handed in, differ from ours, and belong to no lesson.
    pub ignored: Vec<String>,
    /// Why it could not be graded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Serialize)]
pub struct Graded {
    pub lesson: String,
    pub title: String,
    pub points: u32,
    pub of: u32,
    pub functions: Vec<Function>,
    pub tests: Vec<Test>,
    pub suites: Vec<SuiteGrade>,
    /// Changes outside the lesson's functions; ours was used.
    pub tampered: Vec<String>,
    /// What was not run.
    pub refused: Vec<String>,
    /// What the compiler said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compiler: String,
}

#[derive(Serialize)]
pub struct Function {
    pub name: String,
    pub file: String,
    pub points: u32,
    pub of: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

#[derive(Serialize)]
pub struct Test {
    pub name: String,
    /// `green`, `red` or `not run`.
    pub result: String,
    pub points: u32,
    pub of: u32,
    pub seconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
    /// What it means if it is the first red one.
    #[serde(skip)]
    pub red: String,
}

#[derive(Serialize)]
pub struct SuiteGrade {
    pub name: String,
    pub is_green: bool,
    pub passed: usize,
    pub failed: Vec<String>,
    pub said: Vec<String>,
}

impl Grade {
    pub fn new(submission: &Submission, clean: &Clean, ignored: &[std::path::PathBuf]) -> Self {
        Self {
            submission: submission.name.clone(),
            commit: clean.commit.clone(),
            points: 0,
            of: 0,
            lessons: Vec::new(),
            ignored: ignored.iter().map(|path| path.display().to_string()).collect(),
            error: None,
        }
    }

    /// One of several that could not be graded.
    pub fn unread(path: &Path, error: &str) -> Self {
        Self {
            submission: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            commit: String::new(),
            points: 0,
            of: 0,
            lessons: Vec::new(),
            ignored: Vec::new(),
            error: Some(error.to_owned()),
        }
    }

    pub fn add(&mut self, graded: Graded) {
        self.points += graded.points;
        self.of += graded.of;
        self.lessons.push(graded);
    }

    pub fn is_green(&self) -> bool {
        let suites = self.lessons.iter().flat_map(|it| &it.suites).all(|suite| suite.is_green);
        self.error.is_none() && self.points == self.of && suites
    }
}

impl Graded {
    pub fn new(lesson: &Lesson) -> Self {
        let (functions, tests, suites) = Default::default();
        let (tampered, refused, compiler) = Default::default();
        let (name, title) = (lesson.name.clone(), lesson.title.clone());
        let of = lesson.points();
        Self {
            lesson: name,
            title,
            points: 0,
            of,
            functions,
            tests,
            suites,
            tampered,
            refused,
            compiler,
        }
    }
}

impl Test {
    pub fn new(case: &Case) -> Self {
        Self {
            name: case.name.clone(),
            result: String::new(),
            points: 0,
            of: case.points,
            seconds: 0.0,
            said: Vec::new(),
            red: case.red.trim().to_owned(),
        }
    }
}

impl SuiteGrade {
    pub fn new(name: &str, suite: Suite) -> Self {
        let Suite { passed, failed, is_green, said, .. } = suite;
        Self { name: name.to_owned(), is_green, passed, failed, said }
    }

    pub fn broken(name: &str, said: Vec<String>) -> Self {
        Self { name: name.to_owned(), is_green: false, passed: 0, failed: vec![], said }
    }
}
