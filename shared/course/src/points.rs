//! Who has earned which points.

use std::collections::BTreeSet;

use crate::lesson::Lesson;

/// Functions that a red test speaks against. In the order of the tests: where one function is
/// guilty already, a red test says nothing of the others that it rests on.
pub fn guilty<'a>(lesson: &'a Lesson, green: &[Option<bool>]) -> BTreeSet<&'a str> {
    let mut guilty = BTreeSet::new();
    for (case, green) in lesson.cases.iter().zip(green) {
        let is_explained = case.functions.iter().any(|it| guilty.contains(it.as_str()));
        if *green == Some(false) && !is_explained {
            guilty.extend(case.functions.iter().map(String::as_str));
        }
    }
    guilty
}

/// The functions whose points count: written, in a green test, and not guilty.
pub fn proven<'a>(
    lesson: &'a Lesson,
    is_written: impl Fn(&str) -> bool,
    green: &[Option<bool>],
) -> BTreeSet<&'a str> {
    let guilty = guilty(lesson, green);
    let in_green = |name: &str| {
        let mut cases = lesson.cases.iter().zip(green);
        cases
            .any(|(case, green)| *green == Some(true) && case.functions.iter().any(|it| it == name))
    };
    let names = lesson.functions.iter().map(|it| it.name.as_str());
    names.filter(|it| is_written(it) && !guilty.contains(it) && in_green(it)).collect()
}

/// Points reached: those of green tests and of proven functions. `None` is a test that was not
/// run.
pub fn reached(lesson: &Lesson, is_written: impl Fn(&str) -> bool, green: &[Option<bool>]) -> u32 {
    let tests = lesson.cases.iter().zip(green).filter(|(_, green)| **green == Some(true));
    let tests: u32 = tests.map(|(case, _)| case.points).sum();
    let proven = proven(lesson, is_written, green);
    let functions = lesson.functions.iter().filter(|it| proven.contains(it.name.as_str()));
    tests + functions.map(|function| function.points).sum::<u32>()
}

#[cfg(test)]
mod tests {
    use super::proven;
    use crate::lesson::Lesson;

    #[test]
    fn a_red_test_speaks_only_against_what_no_earlier_one_explains() {
        let function = |name: &str| {
            format!(
                "[[function]]\nfile = 'f'\nname = '{name}'\npoints = 1\nsection = 's'\ncontract = 'c'\n"
            )
        };
        let case = |functions: &str| {
            format!(
                "[[test]]\nname = 't'\nfunctions = {functions}\npoints = 1\nsection = 's'\nred = 'r'\n"
            )
        };
        let text = "title = 't'\npage = 'p'\npackage = 'p'\ntests = 't'\n".to_owned()
            + &function("f")
            + &function("g")
            + &case("['f']")
            + &case("['g']")
            + &case("['f', 'g']");
        let lesson: Lesson = toml::from_str(&text).unwrap();
        let proven = |green: [Option<bool>; 3]| -> Vec<String> {
            proven(&lesson, |_| true, &green).into_iter().map(str::to_owned).collect()
        };
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(proven([yes, yes, yes]), ["f", "g"]);
        assert_eq!(proven([yes, no, no]), ["f"], "g explains the last one");
        assert_eq!(proven([yes, None, None]), ["f"]);
        assert_eq!(proven([yes, yes, no]), [""; 0], "either can be the cause");
    }
}
