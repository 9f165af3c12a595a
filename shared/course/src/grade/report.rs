//! What a grading found, shown: on the terminal, as JSON, as JUnit XML, and a table of several as CSV.

use std::path::Path;

use anyhow::{Context, Result};
use console::style;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::found::{Grade, Graded};
use crate::atomic;

/// For a person.
pub fn table(grade: &Grade, out: &Path) {
    let commit = grade.commit.get(..9).unwrap_or(&grade.commit);
    println!("{}, over commit {commit}", style(&grade.submission).bold());
    let names = grade.lessons.iter().flat_map(|it| {
        it.functions.iter().map(|it| &it.name).chain(it.tests.iter().map(|it| &it.name))
    });
    let wide = names.map(|name| name.chars().count()).max().unwrap_or(0);
    let mark = |is_green: bool| if is_green { style("✓").green() } else { style("✗").red() };
    for it in &grade.lessons {
        println!("\n{}, {}: {} of {} points", it.lesson, it.title, it.points, it.of);
        for one in &it.functions {
            let line = format!("{:wide$}  {} of {}  {}", one.name, one.points, one.of, one.note);
            println!("  {} {}", mark(one.points == one.of), line.trim_end());
        }
        for one in &it.tests {
            let said = one.said.first().map_or("", String::as_str);
            let line = format!("{:wide$}  {} of {}  {said}", one.name, one.points, one.of);
            println!("  {} {}", mark(one.result == "green"), line.trim_end());
        }
        for one in &it.suites {
            let red = if one.is_green {
                String::new()
            } else {
                format!(", red: {}", one.failed.join(", "))
            };
            println!(
                "  {} suite {}: {} tests green{red}",
                mark(one.is_green),
                one.name,
                one.passed
            );
        }
        // The first error, and where it is.
        for line in it.compiler.lines().take(2) {
            println!("  {} {}", style("compiler:").yellow(), line.trim());
        }
        for (what, lines) in [("tampered", &it.tampered), ("refused", &it.refused)] {
            for line in lines {
                println!("  {} {line}", style(format!("{what}:")).yellow());
            }
        }
    }
    if !grade.ignored.is_empty() {
        let shown: Vec<_> = grade.ignored.iter().take(5).map(String::as_str).collect();
        let more = grade.ignored.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        println!("\nNot looked at: {}{more}", shown.join(", "));
    }
    println!("\n{}: {} of {} points", style(&grade.submission).bold(), grade.points, grade.of);
    println!("Written: {0}/grade.json, {0}/junit.xml\n", out.display());
}

/// `grade.json` and `junit.xml`.
pub fn write(grade: &Grade, out: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(grade)? + "\n";
    atomic::write(&out.join("grade.json"), json.as_bytes())?;
    let mut report = Report::new(&grade.submission);
    for it in &grade.lessons {
        let mut suite = TestSuite::new(&it.lesson);
        for test in &it.tests {
            let status = match test.result.as_str() {
                "green" => TestCaseStatus::success(),
                "red" => TestCaseStatus::non_success(NonSuccessKind::Failure),
                _ => TestCaseStatus::skipped(),
            };
            let mut case = TestCase::new(&test.name, status);
            case.set_classname(&it.lesson)
                .set_time(std::time::Duration::from_secs_f64(test.seconds));
            if test.result != "green" {
                case.status.set_message(test.said.first().cloned().unwrap_or_default());
                case.status.set_description(format!("{}\n\n{}", test.red, test.said.join("\n")));
            }
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    let xml = report.to_string().context("writing junit.xml")?;
    atomic::write(&out.join("junit.xml"), xml.as_bytes())
}

/// One line a submission.
pub fn csv(grades: &[Grade], out: &Path) -> Result<()> {
    let mut lessons: Vec<&str> = Vec::new();
    for it in grades.iter().flat_map(|grade| &grade.lessons) {
        if !lessons.contains(&it.lesson.as_str()) {
            lessons.push(&it.lesson);
        }
    }
    lessons.sort_unstable();
    // Quotes, so that a name may hold a comma.
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text = format!("submission,{},points,of,note\n", lessons.join(","));
    for grade in grades {
        let mut cells = vec![quoted(&grade.submission)];
        for name in &lessons {
            let it = grade.lessons.iter().find(|it| it.lesson == *name);
            cells.push(it.map_or(String::new(), |it| it.points.to_string()));
        }
        cells.extend([grade.points.to_string(), grade.of.to_string()]);
        let count = |of: fn(&Graded) -> usize| grade.lessons.iter().map(of).sum::<usize>();
        let (tampered, refused) = (count(|it| it.tampered.len()), count(|it| it.refused.len()));
        let mut notes = vec![grade.error.clone().unwrap_or_default()];
        notes.extend((tampered > 0).then(|| format!("{tampered} tampered")));
        notes.extend((refused > 0).then(|| format!("{refused} refused")));
        notes.retain(|note| !note.is_empty());
        cells.push(quoted(&notes.join(", ").replace('\n', " ")));
        text += &(cells.join(",") + "\n");
    }
    let file = out.join("grades.csv");
    atomic::write(&file, text.as_bytes())?;
    println!("Written: {}", file.display());
    Ok(())
}
