//! Questions as a page shows them: a field or choices for the page's script, a line for paper, and an
//! answer that unfolds without either.

use std::path::Path;

use anyhow::{Context, Result};
use regex::{Captures, Regex};

use crate::directive::Directive;
use crate::formula::{evaluate, written};
use crate::listing::escaped;
use crate::questions::{Asked, Choice, Question, Sheet};

impl Sheet {
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
