//! A lesson that does not fit the repository is refused with a sentence.

mod common;

use std::path::Path;

use common::Course;

const LESSON: &str = "book/lessons/one.toml";

#[test]
fn every_lesson_of_this_repository_fits_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if !root.join("book/lessons").is_dir() {
        return;
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_course"));
    let output = command.arg("validate").current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_does_not_fit_is_named() {
    let course = Course::new();
    course.run(&["validate"]).code(0);
    let text = course.read(LESSON);
    for (from, to, sentence) in [
        ("title =", "name =", "unknown field `name`"),
        ("name = \"Ring::next\"", "name = \"Ring::last\"", "function `Ring::last` is not found"),
        ("page = \"one.md\"", "page = \"two.md\"", "there is no book/src/two.md"),
        ("one.html#twice-as-much", "one.html#thrice", "it has step-one, twice-as-much, the-ring"),
        (
            "name = \"two_ranks_exchange\"",
            "name = \"three\"",
            "test `three` is not in tests/lessons",
        ),
        (
            "tests = \"one\"",
            "tests = \"two\"",
            "`lessons` has no test file `two`; it has one, whole",
        ),
        ("functions = [\"exchange\"]", "functions = [\"change\"]", "`change` is none of"),
        ("[[\"lessons\", \"whole\"]]", "[[\"lessons\", \"half\"]]", "no test file `half`"),
        ("contract = \"Sends, then receives.\"", "contract = \" \"", "its contract is empty"),
    ] {
        assert!(text.contains(from), "{from}");
        course.write(LESSON, &text.replacen(from, to, 1));
        let said = course.run(&["validate"]).code(2);
        assert!(said.err.contains(sentence), "{sentence}\nin {}", said.err);
        assert!(said.err.contains(LESSON), "{}", said.err);
    }
}
