//! Questions that the page marks: `{{#predict step03}}` and `{{#questions step03}}` show those of
//! `book/predict/step03.toml`, and `theme/questions.js` compares what a reader types.

use std::path::Path;

use anyhow::{Context, Result, bail};
use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};

use crate::directive::Directive;
use crate::formula::{Quantities, evaluate, written};
use crate::listing::escaped;
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
    ask: String,
    /// A formula over the quantities of `quantities.toml` and of the settings.
    answer: Option<String>,
    /// What the answer is measured in: `B`, `s`, `%` (a share), or nothing.
    #[serde(default)]
    pub unit: String,
    /// The unit that the printed answer is in, if not `unit`.
    show: Option<String>,
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
    way: String,
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
    text: String,
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
    quantities: Quantities,
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

    /// Questions as a page shows them, in Markdown.
    fn shown(&self, questions: &[Question]) -> Result<String> {
        let mut out = String::new();
        for (i, question) in questions.iter().enumerate() {
            let one = self.question(i + 1, question);
            out.push_str(&one.with_context(|| format!("the question {}", question.name))?);
        }
        out.push_str("<p class=\"score\" role=\"status\"></p>\n");
        Ok(out)
    }

    /// Its boxes as the page shows them.
    #[cfg(test)]
    pub fn all_shown(&self) -> Result<[String; 2]> {
        Ok([self.shown(&self.asked.predict)?, self.shown(&self.asked.end)?])
    }

    fn question(&self, number: usize, question: &Question) -> Result<String> {
        let id = self.id(question);
        let answer = self.answer(question)?;
        let mut data = format!("id=\"{id}\" data-unit=\"{}\"", escaped(&question.unit));
        if let Some(answer) = answer {
            let known = serde_json::to_string(&self.known(question)?)?;
            data.push_str(&format!(
                " data-answer=\"{answer}\" data-right=\"{}\" data-near=\"{}\" data-mistakes=\"{}\"",
                question.right,
                question.near,
                escaped(&known)
            ));
        }
        let try_it = match answer {
            Some(_) => self.field(&id, question),
            None => self.radios(&id, question)?,
        };
        Ok(format!(
            "<div class=\"question\" {data}>\n<div class=\"ask\" id=\"{id}-ask\">\n\n\
             **{number}.** {}\n\n</div>\n{try_it}\
             <p class=\"line\" aria-hidden=\"true\">Answer:</p>\n\
             <details class=\"way\"><summary>Answer</summary>\n\n{}\n\n</details>\n</div>\n",
            self.numbers(&question.ask)?.trim(),
            self.way(question)?
        ))
    }

    /// A field to type a number into.
    fn field(&self, id: &str, question: &Question) -> String {
        let unit = match question.unit.as_str() {
            "B" => "in bytes, such as 9.4 MB",
            "s" => "in seconds, such as 12 ms",
            "%" => "a share, such as 20 % or 1/5",
            _ => "a number",
        };
        format!(
            "<form class=\"try\" autocomplete=\"off\"><label for=\"{id}-field\">Your answer</label>\n\
             <input id=\"{id}-field\" type=\"text\" aria-describedby=\"{id}-ask {id}-unit\">\n\
             <button type=\"submit\">Check</button>\n\
             <span class=\"unit\" id=\"{id}-unit\">{unit}</span>\n\
             <output role=\"status\" aria-live=\"polite\" for=\"{id}-field\"></output></form>\n"
        )
    }

    fn radios(&self, id: &str, question: &Question) -> Result<String> {
        let mut out = format!(
            "<form class=\"try choices\"><fieldset aria-describedby=\"{id}-ask\">\
             <legend>Your answer</legend>\n"
        );
        for (i, Choice { text, right, say }) in question.choices.iter().enumerate() {
            let right = if *right { " data-is-right=\"\"" } else { "" };
            out.push_str(&format!(
                "<label><input type=\"radio\" name=\"{id}\" value=\"{i}\"{right} data-say=\"{}\">\n\
                 <span>{}</span></label>\n",
                escaped(say),
                inline(&self.numbers(text)?)
            ));
        }
        out.push_str(
            "</fieldset><button type=\"submit\">Check</button>\n\
             <output role=\"status\" aria-live=\"polite\"></output></form>\n",
        );
        // On paper and without a script the choices are a list.
        let list: Result<Vec<String>> = question
            .choices
            .iter()
            .map(|c| Ok(format!("- {}\n", self.numbers(&c.text)?)))
            .collect();
        out.push_str(&format!("<div class=\"listed\">\n\n{}\n</div>\n", list?.concat()));
        Ok(out)
    }

    /// The answer and how one gets there.
    fn way(&self, question: &Question) -> Result<String> {
        let way = self.numbers(&question.way)?;
        let first = match self.answer(question)? {
            Some(answer) => {
                let unit = question.show.as_ref().unwrap_or(&question.unit);
                let exact = written(answer, if unit == "B" { "" } else { unit });
                if unit == "B" { format!("{exact} bytes") } else { exact }
            }
            None => {
                let right = question.choices.iter().find(|choice| choice.right);
                let text = &right.context("no choice is right")?.text;
                self.numbers(text)?.trim_end_matches('.').to_owned()
            }
        };
        Ok(format!("**{first}.** {}", way.trim()))
    }

    /// `text` with its `[=formula|unit]` replaced.
    fn numbers(&self, text: &str) -> Result<String> {
        let pattern = Regex::new(r"\[=([^\]|]+)(?:\|([^\]]+))?\]")?;
        let mut problem = None;
        let out = pattern.replace_all(text, |found: &Captures| {
            match evaluate(&found[1], &self.quantities) {
                Ok(value) => written(value, found.get(2).map_or("", |unit| unit.as_str())),
                Err(error) => {
                    problem = Some(error);
                    String::new()
                }
            }
        });
        problem.map_or(Ok(out.into_owned()), Err)
    }

    /// The answers of a chapter, for a page of paper, on which nothing unfolds.
    pub fn answers(&self) -> Result<String> {
        let mut out = String::from("\n<div class=\"answers\">\n\n**Answers**\n\n");
        let Asked { predict, end } = &self.asked;
        for (title, questions) in [("Predict", predict), ("Question", end)] {
            for (i, question) in questions.iter().enumerate() {
                out.push_str(&format!("*{title} {}:* {}\n\n", i + 1, self.way(question)?));
            }
        }
        out.push_str("</div>\n");
        Ok(out)
    }
}

/// `text`, whose only markup is code, as HTML.
fn inline(text: &str) -> String {
    let part = |(i, text): (usize, &str)| match i % 2 {
        0 => escaped(text),
        _ => format!("<code>{}</code>", escaped(text)),
    };
    text.trim().split('`').enumerate().map(part).collect()
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

/// `{{#predict step03}}`: what the chapter asks before it explains.
pub fn predict(ask: &Directive, root: &Path) -> Result<String> {
    let [chapter] = ask.shape(["chapter"], &[])?;
    let sheet = Sheet::load(root, chapter)?;
    sheet.shown(&sheet.asked.predict)
}

/// `{{#questions step03}}`: what the chapter asks at its end.
pub fn questions(ask: &Directive, root: &Path) -> Result<String> {
    let [chapter] = ask.shape(["chapter"], &[])?;
    let sheet = Sheet::load(root, chapter)?;
    sheet.shown(&sheet.asked.end)
}

/// Problems with the questions of a book of these chapters, given by path and Markdown: each sheet is
/// shown on its own page, its *Predict* box first.
pub fn unasked(root: &Path, chapters: &[(String, String)]) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in chapters {
        let name = path.trim_end_matches(".md");
        let has = |what: &str| text.matches(&format!("{{{{#{what} {name}}}}}")).count();
        let is_asked = root.join("book/predict").join(format!("{name}.toml")).is_file();
        if name.starts_with("step") && !is_asked {
            problems.push(format!("book/src/{path}: there is no book/predict/{name}.toml"));
        }
        if let (true, Ok(sheet)) = (is_asked, Sheet::load(root, name))
            && [usize::from(!sheet.asked.predict.is_empty()), 1]
                != [has("predict"), has("questions")]
        {
            problems
                .push(format!("book/src/{path}: does not show all questions of its sheet once"));
        }
    }
    problems
}

/// `{{#progress}}`: how many questions of each chapter the reader has answered; the page's script
/// fills it in.
pub fn progress(ask: &Directive, root: &Path) -> Result<String> {
    let [] = ask.shape([], &[])?;
    let summary = std::fs::read_to_string(root.join("book/src/SUMMARY.md"))?;
    let mut rows = String::new();
    for found in Regex::new(r"\[(.*?)\]\((.*?)\.md\)")?.captures_iter(&summary) {
        let (title, page) = (&found[1], &found[2]);
        if !root.join("book/predict").join(format!("{page}.toml")).is_file() {
            continue;
        }
        let sheet = Sheet::load(root, page)?;
        let all = sheet.asked.predict.iter().chain(&sheet.asked.end);
        let ids: Vec<String> = all.map(|question| sheet.id(question)).collect();
        rows.push_str(&format!(
            "<tr data-questions=\"{}\"><td><a href=\"{page}.html\">{}</a></td>\
             <td class=\"done\">–</td><td>{}</td></tr>",
            ids.join(" "),
            escaped(title),
            ids.len()
        ));
    }
    Ok(format!(
        "<table class=\"progress\"><thead><tr><th>chapter</th><th>right</th><th>questions</th></tr>\
         </thead><tbody>{rows}</tbody></table>\n"
    ))
}
