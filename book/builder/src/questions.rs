//! The questions of a chapter, `book/predict/step03.toml`: read, and each answer checked against what
//! holds it. `marked.rs` shows them.

use std::path::Path;

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::formula::{Quantities, evaluate};
use crate::quantities;

/// What one chapter asks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// In its *Predict* box.
    #[serde(default)]
    pub predict: Vec<Question>,
    /// At its end: three.
    pub end: Vec<Question>,
}

/// A question whose answer is a number or a choice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Unique in its chapter; a reader's answer is remembered under it.
    pub name: String,
    /// Markdown. `[=formula]` and `[=formula|unit]` become numbers here and in `way`.
    pub ask: String,
    /// A formula over the quantities of `quantities.toml` and of the settings.
    answer: Option<String>,
    /// What the answer is measured in: `B`, `s`, `%` (a share), or nothing.
    #[serde(default)]
    pub unit: String,
    /// The unit that the printed answer is in, if not `unit`.
    pub show: Option<String>,
    /// Relative difference up to which an answer is right; 0 for a count.
    #[serde(default)]
    pub right: f64,
    /// Relative difference up to which it is near.
    #[serde(default = "near")]
    pub near: f64,
    /// Wrong answers that have a name.
    #[serde(default)]
    mistakes: Vec<Mistake>,
    /// Answers to choose from.
    #[serde(default)]
    pub choices: Vec<Choice>,
    /// How one gets there. Markdown.
    pub way: String,
    /// What holds a number, one at least. A quantity that the code counts
    /// (`tests/tests/predict.rs`), and that the formula must equal.
    counted: Option<String>,
    /// `RUN REGEX`: a number in a recorded run, its first group.
    recorded: Option<String>,
    /// `FILE FUNCTION`: a test that asserts the formula.
    test: Option<String>,
}

fn near() -> f64 {
    0.1
}

/// A wrong answer that somebody gets who forgets something.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mistake {
    answer: String,
    say: String,
}

/// One answer of several.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Markdown without blocks.
    pub text: String,
    /// Whether it is the right one.
    #[serde(default)]
    pub right: bool,
    /// What the page says to who chooses it.
    #[serde(default)]
    pub say: String,
}

/// What the page's script has to know of a wrong answer.
#[derive(Serialize)]
pub struct Known {
    /// Its value.
    pub answer: f64,
    /// What the page says.
    pub say: String,
}

/// How close a recorded number comes to a formula: both may be rounded, and a file has a header.
const RECORDED: f64 = 0.01;

/// A chapter's questions with all that answering them takes.
pub struct Sheet {
    chapter: String,
    /// The questions as they stand in the file.
    pub asked: Asked,
    /// What its formulas may name.
    pub quantities: Quantities,
}

impl Sheet {
    /// The questions of `chapter`, each answer checked against what holds it.
    pub fn load(root: &Path, chapter: &str) -> Result<Self> {
        let path = root.join("book/predict").join(format!("{chapter}.toml"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let asked: Asked =
            toml::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        let quantities = quantities::load(root)?;
        let sheet = Self { chapter: chapter.to_owned(), asked, quantities };
        sheet.check(root).with_context(|| format!("book/predict/{chapter}.toml"))?;
        Ok(sheet)
    }

    fn check(&self, root: &Path) -> Result<()> {
        let Asked { predict, end } = &self.asked;
        if end.len() != 3 {
            bail!("a chapter ends in three questions, and this one has {}", end.len());
        }
        let all: Vec<&Question> = predict.iter().chain(end).collect();
        for (i, question) in all.iter().enumerate() {
            if all[..i].iter().any(|other| other.name == question.name) {
                bail!("two questions are called {}", question.name);
            }
            self.check_one(question, root)
                .with_context(|| format!("the question {}", question.name))?;
        }
        Ok(())
    }

    fn check_one(&self, question: &Question, root: &Path) -> Result<()> {
        let Question { answer, choices, mistakes, counted, recorded, test, .. } = question;
        let right = choices.iter().filter(|choice| choice.right).count();
        let Some(answer) = answer else {
            return match right {
                1 if choices.len() > 1 => Ok(()),
                _ => bail!("needs an answer, or choices of which one is right"),
            };
        };
        if !choices.is_empty() {
            bail!("has an answer and choices");
        }
        let answer = evaluate(answer, &self.quantities)?;
        let mut known = Vec::new();
        for mistake in mistakes {
            let wrong = evaluate(&mistake.answer, &self.quantities)?;
            let near = |to: f64| (wrong - to).abs() <= 3.0 * question.right.max(0.001) * to.abs();
            if near(answer) || known.iter().any(|other| near(*other)) {
                bail!("the mistake {} is too near the answer or another mistake", mistake.answer);
            }
            known.push(wrong);
        }
        if counted.is_none() && recorded.is_none() && test.is_none() {
            bail!("name what holds the answer: `counted`, `recorded` or `test`");
        }
        if let Some(name) = counted {
            let counted = evaluate(name, &self.quantities)?;
            let off = question.right.max(1e-9) * answer.abs();
            if (counted - answer).abs() > off {
                bail!("the formula gives {answer}, and the code counts {counted} for {name}");
            }
        }
        if let Some(place) = recorded {
            let found = in_record(root, place)?;
            if (found - answer).abs() > RECORDED * answer.abs() {
                bail!("the formula gives {answer}, and the recorded run {found}");
            }
        }
        if let Some(test) = test {
            let (file, function) = test.split_once(' ').context("`test` is FILE FUNCTION")?;
            let text = std::fs::read_to_string(root.join(file))
                .with_context(|| format!("reading {file}"))?;
            if !text.contains(&format!("fn {function}(")) {
                bail!("{file} has no test {function}");
            }
        }
        Ok(())
    }

    /// The number that is the answer.
    pub fn answer(&self, question: &Question) -> Result<Option<f64>> {
        question.answer.as_ref().map(|formula| evaluate(formula, &self.quantities)).transpose()
    }

    /// The wrong answers that the page knows.
    pub fn known(&self, question: &Question) -> Result<Vec<Known>> {
        let known = |mistake: &Mistake| {
            let answer = evaluate(&mistake.answer, &self.quantities)?;
            Ok(Known { answer, say: mistake.say.clone() })
        };
        question.mistakes.iter().map(known).collect()
    }

    /// The name that stands for a question in the whole book.
    pub fn id(&self, question: &Question) -> String {
        format!("{}-{}", self.chapter, question.name)
    }
}

/// The first group of a regular expression in a recorded run: `RUN REGEX`.
fn in_record(root: &Path, place: &str) -> Result<f64> {
    let (run, pattern) = place.split_once(' ').context("`recorded` is RUN REGEX")?;
    let path = root.join("book/runs").join(format!("{run}.txt"));
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let found = Regex::new(&format!("(?m){pattern}"))?;
    let found = found.captures(&text).with_context(|| format!("{run} has no `{pattern}`"))?;
    let number = found.get(1).context("`recorded` has no group")?.as_str().replace(',', "");
    number.parse().with_context(|| format!("`{number}` is no number"))
}
