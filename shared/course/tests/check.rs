//! `make check`: from the easiest test on, and what the first red one means.

mod common;

use common::{Course, Said};

fn solved(course: &Course) {
    course.run(&["learn", "one"]).code(0);
    course.solve("double", "if x < 0 { return Err(format!(\"{x} is negative\")); }\n    Ok(x + x)");
    course.solve("Ring::next", "(rank + 1) % self.size");
    course.solve("exchange", "let _ = to.send(own);\n    from.recv().unwrap()");
}

/// The marks before the tests, in their order.
fn marks(said: &Said) -> String {
    let marks = said.out.lines().filter_map(|line| line.trim().chars().next());
    marks.filter(|mark| "✓✗·".contains(*mark)).collect()
}

#[test]
fn what_is_not_written_is_no_failure_and_nothing_is_built_for_it() {
    let course = Course::new();
    course.run(&["learn", "one"]).code(0);
    let said = course.run(&["check", "one"]).code(1);
    assert_eq!(marks(&said), "····");
    said.line("a_number_is_doubled").ends_with("needs double");
    said.line("0 of 3 functions written, 0 of 4 tests green, 0 of 10 points.");
    said.line("Next: write double, in steps/one/src/lib.rs.");
    said.line("book/src/one.md, section \"twice as much\"");
    assert!(!course.path("target").exists());
}

#[test]
fn the_first_red_one_is_explained_in_the_lessons_order() {
    let course = Course::new();
    course.run(&["learn", "one"]).code(0);
    course.solve("double", "Ok(x + x)");
    course.solve("Ring::next", "rank + 1");
    let said = course.run(&["check", "one", "--hint", "2"]).code(1);
    assert_eq!(marks(&said), "✓✗✗·");
    said.line("2 of 3 functions written, 1 of 4 tests green, 1 of 10 points.");
    said.line("The first red one: a_negative_number_is_refused");
    said.line("It means:  The check of the contract is missing.");
    said.line("It says:   assertion `left == right` failed");
    said.line("right: Err(\"-1 is negative\")");
    said.line("http://127.0.0.1:3000/one.html#twice-as-much");
    said.line("Hint 2 for double");
    said.line("`Ok(x * 2)`");
}

#[test]
fn all_green_runs_the_whole_suite() {
    let course = Course::new();
    solved(&course);
    let said = course.run(&["check", "one"]).code(0);
    assert_eq!(marks(&said), "✓✓✓✓✓");
    said.line("3 of 3 functions written, 4 of 4 tests green, 10 of 10 points.");
    said.line("whole: 2 tests");
    said.line("All is green.");
    // What the lesson's own tests do not ask for.
    course.replace("Ok(x + x)", "Ok(if x > 50 { 0 } else { x + x })");
    let said = course.run(&["check", "one"]).code(1);
    assert_eq!(marks(&said), "✓✓✓✓✗");
    said.line("red: all_numbers_are_doubled");
    said.line("the double of 51");
}

#[test]
fn a_deadlock_is_red() {
    let course = Course::new();
    solved(&course);
    course.replace(
        "let _ = to.send(own);\n    from.recv().unwrap()",
        "let got = from.recv().unwrap();\n    let _ = to.send(own);\n    got",
    );
    let said = course.run(&["check", "one", "--seconds", "2"]).code(1);
    assert_eq!(marks(&said), "✓✓✓✗");
    said.line("did not end within 2 s");
    said.line("It means:  Both wait for the other.");
}

#[test]
fn what_does_not_compile_is_shown_as_the_compiler_shows_it() {
    let course = Course::new();
    solved(&course);
    course.replace("Ok(x + x)", "Ok(\"x\")");
    course.replace("use std::sync", "use std::fmt::Debug;\nuse std::sync");
    let said = course.run(&["check", "one"]).code(1);
    said.line("error[E0308]: mismatched types");
    assert!(!said.err.contains("unused"), "warnings are left out: {}", said.err);
}

#[test]
fn a_change_elsewhere_is_named_before_it_is_handed_in() {
    let course = Course::new();
    solved(&course);
    course.replace("x * factor", "x * 2 * factor / 2");
    let said = course.run(&["check", "one", "--no-suite"]).code(0);
    said.line("make grade will not take: steps/one/src/lib.rs:");
    said.line("`fn times` differs: ours is used");
}

#[test]
fn a_hint_that_there_is_not_is_refused() {
    let course = Course::new();
    let said = course.run(&["check", "one", "--function", "double", "--hint", "3"]).code(2);
    assert_eq!(said.err, "error: HINT=3: double has 2 hints\n");
    let said = course.run(&["check", "one", "--function", "triple"]).code(2);
    assert!(said.err.contains("it has double, Ring::next, exchange"), "{}", said.err);
    course.run(&["check", "one", "--function", "double"]).code(0).line("Multiply.");
}
