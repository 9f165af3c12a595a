//! `make learn` and `make solution`: nothing that a learner wrote is lost.

mod common;

use common::{Course, FILE};

/// The command that brings work back, as it was printed.
fn command(said: &common::Said) -> String {
    said.line("git apply").to_owned()
}

#[test]
fn a_lesson_is_handed_out_with_its_contract() {
    let course = Course::new();
    let said = course.run(&["learn", "one"]).code(0);
    assert_eq!(said.line("Handed out"), "Handed out: one, Two ranks. 10 points to reach.");
    let text = course.read(FILE);
    let body = "\
pub fn double(x: i64) -> Result<i64, String> {
    // Write it: double, 2 points.
    //
    // Returns twice `x`.
    //
    // A negative number is refused, with a sentence that names it.
    //
    // The book: book/src/one.md, section \"twice as much\"
    // Test it:  make check STEP=one
    // A hint:   make check STEP=one FUNCTION='double' HINT=1, then HINT=2
    let _ = &x;
    todo!(\"double\")
}
";
    assert!(text.contains(body), "{text}");
    assert!(text.contains("let _ = (&own, &to, &from);\n"), "{text}");
    assert!(text.contains("    x * factor\n"), "what is no lesson stays");
}

#[test]
fn an_unknown_step_is_refused_with_those_there_are() {
    let course = Course::new();
    let said = course.run(&["learn", "two"]).code(2);
    assert_eq!(said.err, "error: STEP=two: there is no such lesson; there are one\n");
    let said = course.run(&["learn"]).code(2);
    assert_eq!(said.err, "error: no STEP is given: name one of one\n");
    course.run(&["learn", "../lessons/one"]).code(2);
}

#[test]
fn work_is_kept_before_a_lesson_is_handed_out_anew() {
    let course = Course::new();
    course.run(&["learn", "one"]).code(0);
    course.solve("double", "Ok(x + x) // mine");
    course.write("notes.txt", "untracked");
    course.git(&["checkout", "-q", "--detach"]);
    let half = course.read(FILE);

    let said = course.run(&["learn", "one"]).code(0);
    said.line("handed out already. Nothing was changed.");
    assert_eq!(course.read(FILE), half, "a second learn changes nothing");

    let said = course.run(&["learn", "one", "--again"]).code(0);
    assert!(!course.read(FILE).contains("// mine"));
    course.solve("Ring::next", "rank + 1 // also mine");
    let other = course.read(FILE);
    course.shell(&command(&said));
    assert_eq!(course.read(FILE), half, "the printed command brings it back");
    // What the command replaced was kept, too, under a number of its own.
    assert!(course.read(".course/one-2.patch").contains("// also mine"));
    course.shell("make solution STEP=one && git apply .course/one-2.patch");
    assert_eq!(course.read(FILE), other);
    assert_eq!(course.read("notes.txt"), "untracked");
}

#[test]
fn other_changes_in_the_file_are_kept_and_stay() {
    let course = Course::new();
    course.replace("x * factor", "factor * x // turned");
    course.replace("//! A step of two ranks.", "//! A step.\n\n// moved\n// down");
    let said = course.run(&["learn", "one"]).code(0);
    assert!(course.read(".course/one-1.patch").contains("// turned"));
    assert!(course.read(FILE).contains("// turned"));
    assert!(course.read(FILE).contains("todo!(\"exchange\")"));
    course.shell(&command(&said));
    assert!(course.read(FILE).contains("// turned"));
    assert!(!course.read(FILE).contains("todo!"));
}

#[test]
fn a_file_that_is_not_rust_any_more_is_kept_and_handed_out() {
    let course = Course::new();
    course.replace("impl Ring {", "impl Ring {{");
    let broken = course.read(FILE);
    course.run(&["learn", "one"]).code(0).line("Nothing was changed");
    let said = course.run(&["learn", "one", "--again"]).code(0);
    assert!(course.read(FILE).contains("todo!(\"Ring::next\")"));
    course.shell(&command(&said));
    assert_eq!(course.read(FILE), broken);
}

#[test]
fn a_committed_exercise_still_has_its_solution() {
    let course = Course::new();
    let ours = course.read(FILE);
    course.run(&["learn", "one"]).code(0);
    course.commit("my exercise");
    course.solve("double", "Ok(2 * x)");
    course.commit("my work");
    let said = course.run(&["solution", "one"]).code(0);
    assert_eq!(course.read(FILE), ours);
    said.line("-     Ok(2 * x)");
    // Without a note of where it came from: the newest commit that has all written.
    course.git(&["checkout", "-q", "--", "."]);
    assert!(!course.path(".course/one.base").exists());
    course.run(&["solution", "one"]).code(0);
    assert_eq!(course.read(FILE), ours);
}

#[test]
fn the_solution_shows_both_and_keeps_theirs() {
    let course = Course::new();
    let ours = course.read(FILE);
    course.run(&["solution", "one"]).code(0).line("nothing to bring back");
    course.run(&["learn", "one"]).code(0);
    course.solve("Ring::next", "(rank + 1) % self.size");
    course.solve("double", "Ok(helper(x))");
    course.replace("fn times(", "fn helper(x: i64) -> i64 {\n    x + x\n}\n\nfn times(");
    let theirs = course.read(FILE);
    let said = course.run(&["solution", "one"]).code(0);
    assert_eq!(course.read(FILE), ours);
    said.line("-     Ok(helper(x))");
    said.line("+     Ok(times(x, 2))");
    said.line("elsewhere");
    said.line("- fn helper(x: i64) -> i64 {");
    course.shell(&command(&said));
    assert_eq!(course.read(FILE), theirs);
}
