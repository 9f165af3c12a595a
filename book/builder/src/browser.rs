//! Every question of the book, answered in a browser: right, near, wrong and senseless, as a reader
//! would. Without a browser on this machine, nothing is checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::formula::grouped;
use crate::questions::{Question, Sheet};

/// Runs in the page: answers, and writes what the page says into it.
const DRIVER: &str = r#"
addEventListener("load", () => {
    const state = (question) => ({
        id: question.id,
        verdict: question.dataset.verdict ?? "",
        says: question.querySelector("output").textContent,
        shows: question.querySelector(".way").open,
        value: question.querySelector("input[type=text]")?.value
            ?? question.querySelector("input:checked")?.value ?? "",
    });
    const answered = CASES.map(({ id, typed }) => {
        const question = document.getElementById(id);
        const field = question.querySelector("input[type=text]");
        question.querySelector(".way").open = false;
        if (field) field.value = typed;
        else question.querySelectorAll("input")[typed].checked = true;
        question.querySelector("form").requestSubmit(); // as Enter does
        return state(question);
    });
    if (FORGET) document.querySelector("button.forget").click();
    const report = document.createElement("pre");
    report.id = "report";
    const all = [...document.querySelectorAll(".question")].map(state);
    const scores = [...document.querySelectorAll(".score")].map((line) => line.textContent);
    report.textContent = JSON.stringify({ answered, all, scores });
    document.body.append(report);
});
"#;

/// What is typed, and what the page must say.
#[derive(Clone, Serialize)]
struct Case {
    id: String,
    typed: String,
    #[serde(skip)]
    verdict: &'static str,
    #[serde(skip)]
    says: String,
}

/// What the page says of a question.
#[derive(Debug, Deserialize)]
struct State {
    id: String,
    verdict: String,
    says: String,
    shows: bool,
    value: String,
}

#[derive(Deserialize)]
struct Report {
    answered: Vec<State>,
    all: Vec<State>,
    scores: Vec<String>,
}

/// A book of its own in a browser of its own.
struct Browser {
    program: PathBuf,
    dir: TempDir,
}

impl Browser {
    /// `None` where there is no browser.
    fn with_book() -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
        let Some(program) = places.into_iter().find(|place| place.is_file()) else {
            println!("skipped: there is no chromium on the PATH, so no question was answered");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        crate::build(&root(), Some(&dir.path().join("out"))).unwrap();
        Some(Self { program, dir })
    }

    /// Opens the page of a chapter and answers its questions.
    fn answer(&self, chapter: &str, cases: &[Case], forget: bool) -> Report {
        let out = self.dir.path().join("out");
        let page = std::fs::read_to_string(out.join(format!("{chapter}.html"))).unwrap();
        let script = DRIVER
            .replace("CASES", &serde_json::to_string(cases).unwrap())
            .replace("FORGET", if forget { "true" } else { "false" });
        let driven = page.replace("</body>", &format!("<script>{script}</script></body>"));
        let path = out.join(format!("{chapter}-driven.html"));
        std::fs::write(&path, driven).unwrap();
        let ran = Command::new(&self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--timeout=60000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", self.dir.path().join("profile").display()))
            .arg(format!("file://{}", path.display()))
            .output()
            .unwrap();
        let dom = String::from_utf8_lossy(&ran.stdout);
        let report = dom.split("<pre id=\"report\">").nth(1).and_then(|r| r.split("</pre>").next());
        let report = report.unwrap_or_else(|| panic!("{chapter}: the page's script has failed"));
        let report = report.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}");
        serde_json::from_str(&report.replace("&amp;", "&")).unwrap()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The chapters that ask something.
fn sheets() -> BTreeMap<String, Sheet> {
    let files = std::fs::read_dir(root().join("book/predict")).unwrap();
    let name = |path: PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let names = files.map(|file| name(file.unwrap().path()));
    let chapters = names.filter(|name| root().join(format!("book/src/{name}.md")).is_file());
    chapters.map(|name| (name.clone(), Sheet::load(&root(), &name).unwrap())).collect()
}

/// Ways to write `answer` that a reader may choose.
fn written(answer: f64, question: &Question) -> Vec<String> {
    let mut ways = vec![answer.to_string(), format!("  {answer} "), format!("2*{answer}/2")];
    let plain = answer.to_string();
    ways.extend((answer.fract() == 0.0).then(|| grouped(&plain)));
    ways.extend((answer.fract() == 0.0).then(|| grouped(&plain).replace(',', " ")));
    ways.extend((answer.fract() == 0.0).then(|| grouped(&plain).replace(',', ".")));
    ways.extend((answer.fract() != 0.0).then(|| plain.replace('.', ",")));
    let power = answer.log2();
    ways.extend((power > 1.0 && power.fract() == 0.0).then(|| format!("2^{power}")));
    match question.unit.as_str() {
        "B" => ways.extend([
            format!("{answer} bytes"),
            format!("{answer}B"),
            format!("{} MB", answer / 1e6),
            format!("{} kB", answer / 1e3),
            format!("about {} GB", (answer / 1e9).to_string().replace('.', ",")),
            format!("{} MiB", answer / 1048576.0),
        ]),
        "s" => ways.extend([format!("{} ms", answer * 1e3), format!("{answer} s")]),
        "%" => ways.extend([format!("{} %", answer * 100.0), format!("{}", answer * 100.0)]),
        _ => {}
    }
    ways
}

/// Answers of all kinds to a question, a right one last.
fn cases(sheet: &Sheet, question: &Question) -> Vec<Case> {
    let id = sheet.id(question);
    let case = |typed: String, verdict, says: &str| Case {
        id: id.clone(),
        typed,
        verdict,
        says: says.to_owned(),
    };
    let Some(answer) = sheet.answer(question).unwrap() else {
        let verdict = |right| if right { "right" } else { "wrong" };
        let mut all: Vec<_> = question.choices.iter().enumerate().collect();
        all.sort_by_key(|(_, choice)| choice.right);
        let choose = |(i, choice): (usize, &crate::questions::Choice)| {
            case(i.to_string(), verdict(choice.right), &choice.say)
        };
        return all.into_iter().map(choose).collect();
    };
    let foreign = if question.unit == "B" { "5 s" } else { "5 MB" };
    let senseless = ["", "banana", "12 parsecs", "1..2,3.4", "(2", "3 4 *", foreign];
    let mut all: Vec<Case> = senseless.map(|typed| case(typed.to_owned(), "unread", "")).into();
    let far = 1.0 + 7.3 * question.near.max(0.9);
    let (times, sign) = if question.unit == "%" { (100.0, " %") } else { (1.0, "") };
    all.push(case(format!("{}{sign}", answer * far * times), "wrong", "too large"));
    all.push(case((answer / far).to_string(), "wrong", "too small"));
    let off = 1.0 + (question.right + question.near) / 2.0;
    all.push(case((answer * off).to_string(), "near", "Near"));
    all.push(case((answer / off).to_string(), "near", "Near"));
    for known in sheet.known(question).unwrap() {
        all.push(case(known.answer.to_string(), "wrong", &known.say));
    }
    all.extend(written(answer, question).into_iter().map(|way| case(way, "right", "Right.")));
    all
}

#[test]
fn every_question_is_marked_as_its_answer_deserves() {
    let Some(browser) = Browser::with_book() else { return };
    let mut problems = Vec::new();
    let (mut questions, mut answers) = (0, 0);
    for (chapter, sheet) in sheets() {
        let asked = || sheet.asked.predict.iter().chain(&sheet.asked.end);
        let cases: Vec<Case> = asked().flat_map(|question| cases(&sheet, question)).collect();
        let report = browser.answer(&chapter, &cases, false);
        for (case, State { verdict, says, shows, .. }) in cases.iter().zip(&report.answered) {
            // The way to the answer unfolds by itself for who has found it.
            let is_right = verdict == case.verdict && says.contains(&case.says);
            if !is_right || *shows != (verdict == "right") {
                let Case { id, typed, verdict: expected, .. } = case;
                problems.push(format!("{id}: `{typed}` is {expected}; page: {verdict}, {says}"));
            }
        }
        let ids: Vec<String> = asked().map(|question| sheet.id(question)).collect();
        let shown: Vec<&str> = report.all.iter().map(|state| state.id.as_str()).collect();
        assert_eq!(shown, ids, "{chapter}: the page shows what the sheet asks, in its order");
        let boxes = [sheet.asked.predict.len(), sheet.asked.end.len()];
        let scores = boxes.iter().filter(|n| **n > 0).map(|n| format!("{n} of {n} right."));
        assert_eq!(report.scores, scores.collect::<Vec<_>>(), "{chapter}");
        questions += ids.len();
        answers += cases.len();
    }
    println!("{questions} questions, {answers} answers");
    assert!(problems.is_empty(), "{} problem(s):\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn answers_are_remembered_until_the_reader_forgets_them() {
    let Some(browser) = Browser::with_book() else { return };
    let (chapter, sheet) = sheets().pop_last().unwrap();
    let last = |question| cases(&sheet, question).pop().unwrap();
    let right: Vec<Case> = sheet.asked.end.iter().map(last).collect();
    browser.answer(&chapter, &right, false);
    let again = browser.answer(&chapter, &[], true);
    assert!(again.all.iter().all(|state| state.verdict.is_empty()), "{:?}", again.all);
    browser.answer(&chapter, &right[..1], false);
    let again = browser.answer(&chapter, &[], false).all;
    let values: Vec<&str> = again.iter().map(|state| state.value.as_str()).collect();
    let verdicts: Vec<&str> = again.iter().map(|state| state.verdict.as_str()).collect();
    let asked = sheet.asked.predict.len();
    assert_eq!(values[asked..], [&right[0].typed, "", ""]);
    assert_eq!(verdicts[asked..], ["right", "", ""]);
}

/// A field has its label, and what the page says is read aloud.
#[test]
fn questions_speak_to_screen_readers_and_unfold_without_a_script() {
    for (_, sheet) in sheets() {
        for html in sheet.all_shown().unwrap() {
            let count = |text: &str| html.matches(text).count();
            let all = count("<div class=\"question\"");
            assert_eq!(count("<output role=\"status\" aria-live=\"polite\""), all);
            assert_eq!(count("<details class=\"way\"><summary>"), all);
            assert_eq!(count("<label for=\"") + count("<legend>"), all);
        }
    }
}
