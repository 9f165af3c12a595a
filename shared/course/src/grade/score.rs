//! Grades one lesson: lays what was handed in over the clone, builds, runs each test, counts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::clean::Clean;
use super::found::{Function, Graded, SuiteGrade, Test};
use super::handed::Handed;
use crate::cargo::{self, Broken, Build};
use crate::check::SECONDS;
use crate::harness::{Built, Verdict};
use crate::lay::{self, Given};
use crate::lesson::{Case, Lesson};
use crate::points::{proven, reached};
use crate::process::Runner;
use crate::source::Source;
use crate::{atomic, suite, work};

pub struct Options {
    pub seconds: Option<u64>,
    pub has_suite: bool,
}

/// A function of the lesson: where it is, and what was handed in for it.
struct Piece {
    name: String,
    file: PathBuf,
    points: u32,
    given: Result<bool, String>,
}

/// Grades `lesson`; the clone is clean before and after.
pub fn score(
    runner: &Runner,
    clean: &Clean,
    lesson: &Lesson,
    handed: &Handed,
    options: &Options,
) -> Result<Graded> {
    clean.reset()?;
    let mut graded = Graded::new(lesson);
    let mut dropped = BTreeSet::new();
    let (pieces, built) = loop {
        let pieces = lay_all(clean, lesson, handed, &dropped, &mut graded)?;
        match cargo::build(runner, &clean.place, &lesson.package, &lesson.tests)? {
            Build::Ready(built) => break (pieces, built),
            Build::Broken(broken) => {
                graded.compiler += &console::strip_ansi_codes(&broken.shown);
                let before = dropped.len();
                dropped.extend(guilty(clean, lesson, &broken)?);
                if dropped.len() == before {
                    clean.reset()?;
                    bail!(
                        "{}: does not compile with what was handed in:\n{}",
                        lesson.name,
                        broken.shown
                    );
                }
            }
        }
    };
    for case in &lesson.cases {
        graded.tests.push(test(runner, &built, case, &pieces, options)?);
    }
    let is_green = |test: &Test| (test.result != "not run").then(|| test.result == "green");
    let green: Vec<_> = graded.tests.iter().map(is_green).collect();
    let is_written = |name: &str| pieces.iter().any(|it| it.name == name && it.given.is_ok());
    graded.points = reached(lesson, is_written, &green);
    let proven = proven(lesson, is_written, &green);
    for piece in &pieces {
        let is_green = proven.contains(piece.name.as_str());
        graded.functions.push(Function {
            name: piece.name.clone(),
            file: piece.file.display().to_string(),
            points: if is_green { piece.points } else { 0 },
            of: piece.points,
            note: match &piece.given {
                Ok(true) => "token for token the repository's".to_owned(),
                Ok(false) => String::new(),
                Err(why) => why.clone(),
            },
        });
    }
    if options.has_suite && green.iter().all(|green| *green == Some(true)) {
        suites(runner, clean, lesson, &mut graded)?;
    }
    clean.reset()?;
    Ok(graded)
}

/// Writes the lesson's files into the clone, theirs where they can be taken.
fn lay_all(
    clean: &Clean,
    lesson: &Lesson,
    handed: &Handed,
    dropped: &BTreeSet<String>,
    graded: &mut Graded,
) -> Result<Vec<Piece>> {
    graded.tampered.clear();
    graded.refused.clear();
    let mut pieces = Vec::new();
    for file in lesson.files() {
        let path = clean.repo.root.join(&file);
        let ours = clean.repo.show("HEAD", &file)?;
        let ours = ours.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let functions: Vec<_> = lesson.functions_of(&file).collect();
        let all = |why: &str| {
            let piece = |function: &&crate::lesson::Function| Piece {
                name: function.name.clone(),
                file: file.clone(),
                points: function.points,
                given: Err(why.to_owned()),
            };
            functions.iter().map(piece).collect::<Vec<_>>()
        };
        let Some(theirs) = handed.texts.get(&file) else {
            pieces.extend(all("the file was not handed in"));
            continue;
        };
        let theirs = match Source::parse(&file, theirs.clone()) {
            Ok(theirs) => theirs,
            Err(error) => {
                graded.refused.push(format!("{error:#}"));
                pieces.extend(all("the file cannot be parsed"));
                continue;
            }
        };
        if functions.is_empty() {
            // Handed out whole, taken whole.
            let found = lay::scan(&theirs);
            graded.refused.extend(found.iter().map(|it| lay::shown(&file, it)));
            write(&path, if found.is_empty() { Some(&theirs.text) } else { ours.as_deref() })?;
            continue;
        }
        let ours = ours.with_context(|| format!("there is no {}", file.display()))?;
        let ours = Source::parse(&file, ours)?;
        let is_dropped = dropped.contains(&file.display().to_string());
        let kept = functions.iter().filter(|it| !is_dropped && !dropped.contains(&it.name));
        let kept: Vec<_> = kept.copied().collect();
        let laid = lay::lay(&ours, &theirs, &kept)?;
        write(&path, Some(if is_dropped { &ours.text } else { &laid.text }))?;
        // A function that does not compile is no tampering.
        let owned = |found: &(usize, String)| {
            !functions.iter().any(|it| found.1.contains(&format!("{}`", it.name)))
        };
        let tampered = laid.tampered.iter().filter(|found| owned(found));
        graded.tampered.extend(tampered.map(|it| lay::shown(&file, it)));
        graded.refused.extend(laid.refused.iter().map(|it| lay::shown(&file, it)));
        for function in &functions {
            let given = laid.functions.iter().find(|(name, _)| *name == function.name);
            let given = match given.map(|(_, given)| given) {
                Some(Given::Written { is_ours }) => Ok(*is_ours),
                Some(Given::Unwritten) => Err("not written"),
                Some(Given::Missing) => Err("the file has no such function"),
                Some(Given::OtherSignature) => Err("its arguments or its result are others"),
                Some(Given::Refused) => Err("refused"),
                None => Err("does not compile"),
            };
            pieces.push(Piece {
                name: function.name.clone(),
                file: file.clone(),
                points: function.points,
                given: given.map_err(str::to_owned),
            });
        }
    }
    // In the lesson's order.
    let place = |piece: &Piece| lesson.functions.iter().position(|it| it.name == piece.name);
    pieces.sort_by_key(place);
    Ok(pieces)
}

fn write(path: &Path, text: Option<&str>) -> Result<()> {
    let there = work::text(path)?;
    match text {
        // An untouched file is not compiled again.
        Some(text) if there.as_deref() != Some(text) => atomic::write(path, text.as_bytes()),
        None if there.is_some() => Ok(std::fs::remove_file(path)?),
        _ => Ok(()),
    }
}

/// Whose fault it is that it does not compile: functions of the lesson, else whole files.
fn guilty(clean: &Clean, lesson: &Lesson, broken: &Broken) -> Result<BTreeSet<String>> {
    let (mut functions, mut files) = (BTreeSet::new(), BTreeSet::new());
    for (at, line) in &broken.at {
        let Some(file) = lesson.files().into_iter().find(|file| at.ends_with(file)) else {
            continue;
        };
        let text = work::text(&clean.repo.root.join(&file))?.unwrap_or_default();
        let source = Source::parse(&file, text).ok();
        let of = lesson.functions_of(&file).find(|function| {
            let found = source.as_ref().and_then(|it| it.function(&function.name).ok().flatten());
            found.is_some_and(|found| (found.lines().0..=found.lines().1).contains(line))
        });
        match of {
            Some(function) => functions.insert(function.name.clone()),
            None => files.insert(file.display().to_string()),
        };
    }
    Ok(if functions.is_empty() { files } else { functions })
}

fn test(
    runner: &Runner,
    built: &Built,
    case: &Case,
    pieces: &[Piece],
    options: &Options,
) -> Result<Test> {
    let mut test = Test::new(case);
    let needs = pieces.iter().find(|it| it.given.is_err() && case.functions.contains(&it.name));
    if let Some(piece) = needs {
        let why = piece.given.as_ref().err().map_or("", String::as_str);
        test.result = "not run".to_owned();
        test.said = vec![format!("{}: {why}", piece.name)];
        return Ok(test);
    }
    let ran = built.run(runner, &case.name, options.seconds.or(case.seconds).unwrap_or(SECONDS))?;
    test.seconds = ran.took.as_secs_f64();
    match ran.verdict {
        Verdict::Green => {
            test.result = "green".to_owned();
            test.points = case.points;
        }
        Verdict::Red(lines) => {
            test.result = "red".to_owned();
            test.said = lines;
        }
        Verdict::Stuck(seconds) => {
            test.result = "red".to_owned();
            test.said = vec![format!("did not end within {seconds} s")];
        }
    }
    Ok(test)
}

fn suites(runner: &Runner, clean: &Clean, lesson: &Lesson, graded: &mut Graded) -> Result<()> {
    for (package, name) in &lesson.suite {
        let built = match cargo::build(runner, &clean.place, package, name)? {
            Build::Ready(built) => built,
            Build::Broken(broken) => {
                let said = broken.shown.lines().map(str::to_owned).collect();
                graded.suites.push(SuiteGrade::broken(name, said));
                continue;
            }
        };
        graded.suites.push(SuiteGrade::new(name, suite::run(runner, &built, name)?));
    }
    Ok(())
}
