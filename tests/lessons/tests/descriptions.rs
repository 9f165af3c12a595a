//! What `book/lessons` says of the lessons is there: functions, tests, sections, starters.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs::{read_dir, read_to_string};
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lesson {
    title: String,
    page: String,
    package: String,
    tests: String,
    #[serde(default)]
    suite: Vec<(String, String)>,
    #[serde(default)]
    function: Vec<Function>,
    test: Vec<Test>,
    #[serde(default)]
    starter: Vec<(String, String)>,
    #[serde(default)]
    reference: Vec<(String, String)>,
    #[serde(default)]
    answer: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Function {
    file: String,
    name: String,
    points: u32,
    section: String,
    contract: String,
    hints: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    functions: Vec<String>,
    points: u32,
    section: String,
    red: String,
    #[serde(default, rename = "seconds")]
    _seconds: Option<u64>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(file: &str) -> String {
    read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every lesson, by the name of its file.
fn lessons() -> Vec<(String, Lesson)> {
    let entries = read_dir(root().join("book/lessons")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    let read = |path: &PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let lesson = toml::from_str(&read_to_string(path).unwrap());
        (name.clone(), lesson.unwrap_or_else(|error| panic!("{name}: {error}")))
    };
    files.iter().map(read).collect()
}

/// Where the tests of a package are.
fn test_file(package: &str, test: &str) -> String {
    match package {
        "lessons" => format!("tests/lessons/tests/{test}.rs"),
        "parity" => format!("tests/tests/{test}.rs"),
        other => format!("shared/{other}/tests/{test}.rs"),
    }
}

/// The anchors that mdBook makes of a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let text = text(&format!("book/src/{page}"));
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let slug = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim();
        let kept = heading.chars().filter_map(|c| match c {
            c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
            c if c.is_whitespace() => Some('-'),
            _ => None,
        });
        kept.collect()
    };
    headings.map(slug).collect()
}

#[track_caller]
fn assert_section(name: &str, section: &str) {
    let (page, anchor) =
        section.split_once(".html#").unwrap_or_else(|| panic!("{name}: {section}"));
    let anchors = anchors(&format!("{page}.md"));
    assert!(anchors.contains(anchor), "{name}: {page}.md has no section {anchor}: {anchors:?}");
}

/// The text of `impl Type {` …, or the whole file for a function without a type.
fn block<'a>(source: &'a str, kind: Option<&str>) -> Option<&'a str> {
    let Some(kind) = kind else { return Some(source) };
    let starts = source.match_indices("\nimpl").map(|(at, _)| &source[at + 1..]);
    let mut blocks = starts.filter(|rest| {
        let head = rest.lines().next().unwrap_or_default();
        let words: Vec<&str> = head.split([' ', '<', '\'', '>']).collect();
        words.contains(&kind)
    });
    let rest = blocks.next()?;
    Some(&rest[..rest.find("\n}").map_or(rest.len(), |end| end + 2)])
}

#[test]
fn every_function_is_in_its_file() {
    for (name, lesson) in lessons() {
        assert_eq!(
            lesson.function.is_empty(),
            !lesson.starter.is_empty(),
            "{name}: functions or a starter"
        );
        for function in &lesson.function {
            let source = text(&function.file);
            let (kind, plain) = match function.name.rsplit_once("::") {
                Some((kind, plain)) => (Some(kind), plain),
                None => (None, function.name.as_str()),
            };
            let block = block(&source, kind).unwrap_or_else(|| panic!("{name}: no impl {kind:?}"));
            let found = [" fn", "\nfn"].iter().any(|f| {
                [format!("{f} {plain}("), format!("{f} {plain}<")].iter().any(|t| block.contains(t))
            });
            assert!(found, "{name}: {} is not in {}", function.name, function.file);
            assert!(
                !function.contract.trim().is_empty() && function.points > 0,
                "{name}: {}",
                function.name
            );
            assert_eq!(function.hints.len(), 2, "{name}: hints of {}", function.name);
            assert_section(&name, &function.section);
            let about = |test: &&Test| test.functions.contains(&function.name);
            assert!(lesson.test.iter().any(|t| about(&t)), "{name}: no test of {}", function.name);
        }
    }
}

#[test]
fn every_test_is_in_its_file_and_no_other_is() {
    for (name, lesson) in lessons() {
        let source = text(&test_file(&lesson.package, &lesson.tests));
        let there: BTreeSet<&str> = source
            .split("#[test]\nfn ")
            .skip(1)
            .map(|rest| rest.split('(').next().unwrap_or_default())
            .collect();
        let listed: Vec<&str> = lesson.test.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), there, "{name}: tests");
        assert_eq!(listed.len(), there.len(), "{name}: a test is listed twice");
        let mut functions: Vec<String> = lesson.function.iter().map(|f| f.name.clone()).collect();
        for (from, _) in &lesson.starter {
            let starter = text(from);
            let written = starter.split("pub fn ").skip(1);
            functions.extend(written.map(|rest| rest.split('(').next().unwrap().to_owned()));
        }
        for test in &lesson.test {
            assert!(!test.red.trim().is_empty(), "{name}: {} says nothing", test.name);
            assert_section(&name, &test.section);
            for function in &test.functions {
                assert!(functions.contains(function), "{name}: {} names {function}", test.name);
            }
        }
        assert!(lesson.test.iter().map(|test| test.points).sum::<u32>() > 0, "{name}: no points");
    }
}

#[test]
fn pages_suites_starters_and_references_are_there() {
    for (name, lesson) in lessons() {
        assert!(!lesson.title.is_empty() && !anchors(&lesson.page).is_empty(), "{name}: its page");
        for (package, test) in &lesson.suite {
            assert!(
                root().join(test_file(package, test)).exists(),
                "{name}: suite {package} {test}"
            );
        }
        for (from, _) in lesson.starter.iter().chain(&lesson.reference) {
            assert!(root().join(from).exists(), "{name}: {from}");
        }
        if !lesson.starter.is_empty() {
            let to = |pairs: &[(String, String)]| -> Vec<String> {
                pairs.iter().map(|(_, to)| to.clone()).collect()
            };
            let same = to(&lesson.starter) == to(&lesson.reference);
            assert!(same || lesson.answer.is_some(), "{name}: a reference for each starter");
        }
        let of_page = lesson
            .test
            .iter()
            .map(|t| &t.section)
            .chain(lesson.function.iter().map(|f| &f.section));
        for section in of_page {
            let page = lesson.page.replace(".md", ".html");
            assert!(section.starts_with(&page), "{name}: {section} is another page's");
        }
    }
}

/// The chapter says how many points a lesson has.
#[test]
fn each_chapter_names_its_lessons_and_their_points() {
    for (name, lesson) in lessons() {
        let page = text(&format!("book/src/{}", lesson.page));
        let command = format!("make learn STEP={name}");
        assert!(page.contains(&command), "{} does not say `{command}`", lesson.page);
        let functions: u32 = lesson.function.iter().map(|function| function.points).sum();
        let points = functions + lesson.test.iter().map(|test| test.points).sum::<u32>();
        let words = format!("{points} points");
        assert!(page.contains(&words), "{} does not say that {name} has {words}", lesson.page);
    }
}
