//! What `make check` prints.

use anyhow::Result;
use console::style;

use crate::check::{Seen, hint_of};
use crate::lay;
use crate::lesson::{Case, Lesson};
use crate::page;
use crate::points::reached;
use crate::source::Source;
use crate::stub::points;
use crate::suite::Suite;
use crate::work::{Standing, Work};

/// Before anything is built.
pub fn before(lesson: &Lesson, work: &Work) {
    if work.is_ours() {
        println!(
            "  These are the repository's own functions: make learn STEP={} hands them out.",
            lesson.name
        );
    }
    for why in work.broken.values() {
        println!("  {why}");
    }
    // What would not count if it were handed in.
    for (file, theirs) in &work.theirs {
        let functions: Vec<_> = lesson.functions_of(file).collect();
        let (Some(theirs), Some(Some(ours))) = (theirs, work.ours.get(file)) else { continue };
        let parse = |text: &String| Source::parse(file, text.clone());
        let (Ok(ours), Ok(theirs)) = (parse(ours), parse(theirs)) else { continue };
        let Ok(laid) = lay::lay(&ours, &theirs, &functions) else { continue };
        if functions.is_empty() {
            continue;
        }
        for found in laid.tampered.iter().chain(&laid.refused) {
            println!(
                "  {}: {}",
                style("make grade will not take").yellow(),
                lay::shown(file, found)
            );
        }
    }
}

/// One test.
pub fn line(case: &Case, seen: &Seen, took: Option<f64>, wide: usize) {
    let (mark, note) = match seen {
        Seen::Green => (style("✓").green(), points(case.points)),
        Seen::Red(_) => (style("✗").red(), String::new()),
        Seen::Stuck(seconds) => (style("✗").red(), format!("did not end within {seconds} s")),
        Seen::Needs(names) => (style("·").dim(), format!("needs {}", few(names))),
        Seen::NotRun => (style("·").dim(), "not run: the one above did not end".to_owned()),
    };
    let took = match (seen, took) {
        (Seen::Green | Seen::Red(_), Some(took)) => format!("{took:5.1} s  "),
        _ => " ".repeat(9),
    };
    println!("{}", format!("  {mark} {:wide$}  {took}{note}", case.name).trim_end());
}

/// The first two, and how many more.
fn few(names: &[String]) -> String {
    match names {
        [first, second, _, ..] => format!("{first}, {second} and {} more", names.len() - 2),
        _ => names.join(", "),
    }
}

/// How far the learner is.
pub fn standing(lesson: &Lesson, work: &Work, seen: &[Seen]) {
    let green: Vec<_> = seen.iter().map(Seen::is_green).collect();
    let is_written =
        |name: &str| matches!(work.standing(name), Some(Standing::Ours | Standing::Theirs));
    let written = lesson.functions.iter().filter(|it| is_written(&it.name)).count();
    let mut parts = Vec::new();
    if !lesson.functions.is_empty() {
        parts.push(format!("{written} of {} functions written", lesson.functions.len()));
    }
    let count = green.iter().filter(|green| **green == Some(true)).count();
    parts.push(format!("{count} of {} tests green", green.len()));
    let reached = reached(lesson, is_written, &green);
    parts.push(format!("{reached} of {}", points(lesson.points())));
    println!("\n{}.", parts.join(", "));
}

/// What the first red test means, or what to write next; returns the functions that it is about.
pub fn first(lesson: &Lesson, work: &Work, seen: &[Seen]) -> Vec<String> {
    let is_red = |it: &Seen| matches!(it, Seen::Red(_) | Seen::Stuck(_));
    if let Some((case, seen)) = lesson.cases.iter().zip(seen).find(|(_, seen)| is_red(seen)) {
        println!("\n{} {}", style("The first red one:").red(), style(&case.name).bold());
        wrapped("  It means:  ", case.red.trim());
        match seen {
            Seen::Red(lines) => {
                let mut head = "  It says:   ";
                for line in lines {
                    broken(head, line);
                    head = "             ";
                }
            }
            Seen::Stuck(seconds) => {
                println!(
                    "  It says:   nothing; it did not end within {seconds} s. A rank waits for"
                );
                println!("             a message or a sum that no other rank takes part in.");
            }
            _ => {}
        }
        at(lesson, &case.section);
        let functions = case.functions.clone();
        return functions;
    }
    let mut names: Vec<String> = Vec::new();
    for seen in seen {
        if let Seen::Needs(needed) = seen {
            names.extend(needed.iter().cloned());
        }
    }
    let next = work.functions.iter().find(|(it, _)| names.first() == Some(&it.name));
    if let Some((function, _)) = next {
        println!("\nNext: write {}, in {}.", style(&function.name).bold(), function.file.display());
        at(lesson, &function.section);
        return vec![function.name.clone()];
    }
    names.truncate(1);
    names
}

fn at(lesson: &Lesson, section: &str) {
    println!("  The book:  {}", page::shown(section));
    println!("             {} (make serve)", page::address(section));
    println!("  A hint:    make check STEP={} HINT=1", lesson.name);
}

/// Prints the hint of this number for each of `names`, but not for a whole step at once.
pub fn hint(lesson: &Lesson, names: &[String], number: usize) -> Result<()> {
    if names.len() > 2 {
        println!("\nThis test is about {}:", names.join(", "));
        println!("  make check STEP={} FUNCTION=NAME HINT={number}", lesson.name);
        return Ok(());
    }
    for name in names {
        let hint = hint_of(lesson, name, number)?;
        println!("\n{}", style(format!("Hint {number} for {name}")).bold());
        for paragraph in hint.trim().split("\n\n") {
            wrapped("  ", paragraph);
        }
    }
    Ok(())
}

/// A suite's result.
pub fn suite(name: &str, suite: &Suite) {
    let took = suite.took.as_secs_f64();
    if suite.is_green {
        println!("  {} {name}: {} tests, {took:.0} s", style("✓").green(), suite.passed);
        return;
    }
    println!(
        "  {} {name}: {} red: {}",
        style("✗").red(),
        suite.failed.len(),
        suite.failed.join(", ")
    );
    for line in &suite.said {
        println!("    {line}");
    }
    println!("  The lesson's own tests are green: this test says what they do not ask for.");
}

/// Prose: its lines are joined and broken anew.
fn wrapped(head: &str, text: &str) {
    broken(head, &text.split_whitespace().collect::<Vec<_>>().join(" "));
}

/// One line, broken where the terminal ends.
fn broken(head: &str, line: &str) {
    let term = console::Term::stdout();
    let width = if term.is_term() { usize::from(term.size().1).clamp(60, 120) } else { 100 };
    let below = " ".repeat(head.chars().count());
    let options = textwrap::Options::new(width).initial_indent(head).subsequent_indent(&below);
    println!("{}", textwrap::fill(line, options));
}
