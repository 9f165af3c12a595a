//! Pages of the book: their sections, and how to name one to a reader.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Where `make serve` puts the book.
pub const SERVED: &str = "http://127.0.0.1:3000";

/// `book/src/step03.md, section "f-and-g"`, from `step03.html#f-and-g`.
pub fn shown(section: &str) -> String {
    let (page, anchor) = section.split_once('#').unwrap_or((section, ""));
    let file = format!("book/src/{}.md", page.trim_end_matches(".html"));
    let words = anchor.replace('-', " ");
    if words.is_empty() { file } else { format!("{file}, section \"{words}\"") }
}

/// Its address while `make serve` runs.
pub fn address(section: &str) -> String {
    format!("{SERVED}/{section}")
}

/// Refuses a section that the book does not have.
pub fn check(root: &Path, section: &str) -> Result<()> {
    let (page, anchor) = section.split_once('#').unwrap_or((section, ""));
    let Some(name) = page.strip_suffix(".html") else {
        bail!("section `{section}` is not of the form page.html#section");
    };
    let file = format!("book/src/{name}.md");
    let text = fs::read_to_string(root.join(&file))
        .with_context(|| format!("section `{section}`: there is no {file}"))?;
    let all = anchors(&text);
    if !anchor.is_empty() && !all.iter().any(|it| it == anchor) {
        bail!("section `{section}`: {file} has no such section; it has {}", all.join(", "));
    }
    Ok(())
}

/// The sections of a page, as mdBook names them.
fn anchors(text: &str) -> Vec<String> {
    let mut used: HashMap<String, u32> = HashMap::new();
    let mut all = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        let is_heading = heading.len() < line.len() && heading.starts_with(' ');
        if in_code || !is_heading {
            continue;
        }
        // `## Title {#name}`
        let given = heading.trim_end().strip_suffix('}').and_then(|it| it.rsplit_once("{#"));
        let id = given.map_or_else(|| id(heading), |(_, id)| id.to_owned());
        let count = used.entry(id.clone()).and_modify(|count| *count += 1).or_insert(0);
        all.push(if *count == 0 { id } else { format!("{id}-{count}") });
    }
    all
}

fn id(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter_map(|it| match it {
        it if it.is_whitespace() => Some('-'),
        it if it.is_alphanumeric() || it == '_' || it == '-' => Some(it),
        _ => None,
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::anchors;

    #[test]
    fn sections_are_named_as_in_the_page() {
        let text = "# Step 3: f, g\n```text\n# no\n```\n## `mark_ready`\n## Exercise\n## Exercise\n## A {#b}\n";
        let all = ["step-3-f-g", "mark_ready", "exercise", "exercise-1", "b"];
        assert_eq!(anchors(text), all);
    }
}
