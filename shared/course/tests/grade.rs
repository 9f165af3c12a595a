//! `make grade`: points for what was written, and for nothing else.

mod common;

use std::fs::{self, File};

use common::{Course, FILE, Said};
use flate2::{Compression, write::GzEncoder};

/// Our file with changes, as somebody hands it in.
fn changed(course: &Course, changes: &[(&str, &str)]) -> String {
    let mut text = course.read(FILE);
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    text
}

/// Hands in a folder with this one file, and grades it.
fn grade(course: &Course, changes: &[(&str, &str)]) -> Said {
    let text = changed(course, changes);
    course.write(&format!("in/ada/{FILE}"), &text);
    course.run(&["grade", "in/ada", "--seconds", "20"])
}

const DOUBLE: &str = "Ok(times(x, 2))";

#[test]
fn a_good_solution_has_all_points_in_every_form() {
    let course = Course::new();
    let said =
        grade(&course, &[(DOUBLE, "Ok(twice(x))\n}\n\nfn twice(x: i64) -> i64 {\n    x + x")]);
    let said = said.code(0);
    said.line("ada: 10 of 10 points");
    said.line("token for token the repository's");
    let grade = course.grade("ada");
    assert_eq!((&grade["points"], &grade["of"]), (&10.into(), &10.into()));
    assert_eq!(grade["lessons"][0]["suites"][0]["is_green"], true);
    let xml = course.read("grade-ada/junit.xml");
    assert!(xml.contains("tests=\"4\" skipped=\"0\" failures=\"0\""), "{xml}");

    let text = course.read(&format!("in/ada/{FILE}"));
    course.write(FILE, &text);
    let patch = course.git(&["diff"]);
    course.git(&["checkout", "-q", "."]);
    course.write("in/bea.patch", &patch);
    course.run(&["grade", "in/bea.patch", "--no-suite"]).code(0).line("bea: 10 of 10 points");

    let mut archive = tar::Builder::new(GzEncoder::new(
        File::create(course.path("in/cleo.tar.gz")).unwrap(),
        Compression::fast(),
    ));
    archive.append_dir_all("cleo-main", course.path("in/ada")).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
    course.run(&["grade", "in/cleo.tar.gz", "--no-suite"]).code(0).line("cleo: 10 of 10 points");

    let mut zip = zip::ZipWriter::new(File::create(course.path("in/dora.zip")).unwrap());
    zip.start_file(FILE, zip::write::SimpleFileOptions::default()).unwrap();
    std::io::Write::write_all(&mut zip, text.as_bytes()).unwrap();
    zip.finish().unwrap();
    course.run(&["grade", "in/dora.zip", "--no-suite"]).code(0).line("dora: 10 of 10 points");
    // The checkout that grades is as it was.
    assert_eq!(course.git(&["status", "--short"]), "?? in/\n");
}

#[test]
fn a_bad_solution_loses_the_points_of_what_is_wrong() {
    let course = Course::new();
    let negative = "return Err(format!(\"{x} is negative\"));";
    let said = grade(&course, &[(negative, ""), ("(rank + 1) % self.size", "todo!()")]).code(1);
    said.line("ada: 5 of 10 points");
    let lesson = &course.grade("ada")["lessons"][0];
    let results: Vec<_> = (0..4).map(|test| lesson["tests"][test]["result"].clone()).collect();
    assert_eq!(results, ["green", "red", "not run", "green"]);
    assert_eq!(lesson["functions"][1]["note"], "not written");
    assert_eq!(lesson["suites"], serde_json::json!([]));
    let xml = course.read("grade-ada/junit.xml");
    assert!(xml.contains("The check of the contract is missing."), "{xml}");
}

#[test]
fn what_does_not_compile_costs_only_its_own_points() {
    let course = Course::new();
    let said = grade(&course, &[("(rank + 1) % self.size", "rank + \"1\"")]).code(1);
    said.line("ada: 8 of 10 points");
    said.line("Ring::next").ends_with("does not compile");
    assert!(course.grade("ada")["lessons"][0]["compiler"].as_str().unwrap().contains("E0277"));
    // A file that is not Rust has none.
    let said = grade(&course, &[("impl Ring {", "impl Ring {{")]).code(1);
    said.line("ada: 0 of 10 points");
    said.line("refused: the file is not Rust: steps/one/src/lib.rs:");
}

#[test]
fn a_deadlock_ends() {
    let course = Course::new();
    let text = changed(&course, &[("let _ = to.send(own);", "let _ = from.recv();")]);
    course.write(&format!("in/ada/{FILE}"), &text);
    let said = course.run(&["grade", "in/ada", "--seconds", "2"]).code(1);
    said.line("two_ranks_exchange").ends_with("did not end within 2 s");
    said.line("ada: 6 of 10 points");
}

#[test]
fn what_is_not_theirs_to_change_is_reported_and_ours_is_used() {
    let course = Course::new();
    course.write("in/ada/tests/lessons/tests/one.rs", "#[test]\nfn a_number_is_doubled() {}\n");
    course.write("in/ada/Cargo.toml", "[workspace]");
    let said = grade(&course, &[("x * factor", "6"), (DOUBLE, "Ok(times(x, 3))")]).code(1);
    said.line("tampered: steps/one/src/lib.rs:19: `fn times` differs: ours is used");
    said.line("Not looked at: Cargo.toml, tests/lessons/tests/one.rs");
    said.line("a_number_is_doubled").contains("0 of 1");
    said.line("ada: 7 of 10 points");
}

#[test]
fn what_no_lesson_needs_is_refused_with_its_line_and_not_run() {
    let course = Course::new();
    for (code, what) in [
        ("std::process::exit(0)", "`std::process`"),
        ("{ use std::{process as p}; p::exit(0) }", "`std::process`"),
        ("unsafe { std::hint::unreachable_unchecked() }", "`unsafe`"),
        ("{ let _ = std::env::args(); Ok(0) }", "`std::env`"),
        ("{ let _ = ::std::r#fs::read(\"x\"); Ok(0) }", "`std::fs`"),
        ("{ println!(\"{}\", include_str!(\"lib.rs\")); Ok(0) }", "`include_str!`"),
        ("{ println!(\"test result: ok. 1 passed\"); Ok(0) }", "`test result`"),
        ("{ if cfg!(test) { return Ok(0) } Ok(1) }", "`cfg!`"),
    ] {
        let said = grade(&course, &[(DOUBLE, code)]).code(1);
        let line = said.line("refused: steps/one/src/lib.rs:16: ");
        assert!(line.contains(what), "{code}: {line}");
        said.line("ada: 6 of 10 points");
    }
    let import = ("use std::sync::mpsc", "use std::process::exit;\nuse std::sync::mpsc");
    let said = grade(&course, &[import, (DOUBLE, "exit(0)")]).code(1);
    said.line("refused: steps/one/src/lib.rs:3: `std::process`");
    said.line("ada: 6 of 10 points");
}

/// The words are let through here by the repository's own solution: what is left is the harness.
#[test]
fn an_end_before_the_harness_verdict_is_no_pass() {
    let course = Course::new();
    course.replace(
        DOUBLE,
        "if x == i64::MAX { std::process::exit(1); }\n    if x == i64::MIN { println!(\"test result\"); }\n    Ok(times(x, 2))",
    );
    course.commit("a solution that ends processes");
    let said = grade(&course, &[("    Ok(times(x, 2))", "    std::process::exit(0)")]).code(1);
    said.line("a_number_is_doubled").ends_with("it counts as failed");
    said.line("ada: 7 of 10 points");
    let fake = "println!(\"test a_number_is_doubled ... ok\\n\\ntest result: ok. 1 passed; 0 failed; 0 ignored\");\n    std::process::exit(0)";
    let said = grade(&course, &[("    Ok(times(x, 2))", fake)]).code(1);
    said.line("a_number_is_doubled").ends_with("it counts as failed");
    said.line("ada: 7 of 10 points");
}

#[test]
fn a_class_is_graded_in_a_row() {
    let course = Course::new();
    let good = changed(&course, &[(DOUBLE, "Ok(x + x)")]);
    let bad = changed(&course, &[(DOUBLE, "Ok(x)")]);
    course.write(&format!("in/ada/{FILE}"), &good);
    course.write(&format!("in/bea/{FILE}"), &bad);
    course.write("in/cleo.txt", "forgot");
    fs::create_dir_all(course.path("in/dora")).unwrap();
    course.run(&["grade", "in", "--each", "--no-suite", "--out", "out"]).code(1);
    let table = course.read("out/grades.csv");
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[0], "submission,one,points,of,note");
    assert_eq!(lines[1], "\"ada\",10,10,10,\"\"");
    assert_eq!(lines[2], "\"bea\",7,7,10,\"\"");
    assert!(lines[3].starts_with("\"cleo.txt\",,0,0,\"SUBMISSION=in/cleo.txt: neither"), "{table}");
    assert!(lines[4].starts_with("\"dora\",,0,0,\"dora: no file of a lesson (one)"), "{table}");
    assert!(course.path("out/grade-ada/grade.json").exists());
}

#[test]
fn what_cannot_be_read_is_refused() {
    let course = Course::new();
    let said = course.run(&["grade", "nowhere"]).code(2);
    assert!(said.err.starts_with("error: SUBMISSION=nowhere cannot be read"), "{}", said.err);
    course.write("in/ada.txt", "");
    let said = course.run(&["grade", "in/ada.txt"]).code(2);
    assert!(said.err.contains("neither a folder nor one of .patch"), "{}", said.err);
    course.write("in/ada.patch", "no patch");
    let said = course.run(&["grade", "in/ada.patch"]).code(2);
    assert!(said.err.contains("ada.patch is no patch"), "{}", said.err);
}
