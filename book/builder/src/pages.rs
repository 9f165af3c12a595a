//! Reads the rendered pages back and checks them: every link leads somewhere, every picture exists,
//! and nothing is loaded from another machine.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};
use regex::Regex;

/// What a page refers to.
#[derive(Default)]
struct Page {
    /// Names that a `#fragment` can point at.
    ids: BTreeSet<String>,
    /// Tag, attribute, value.
    references: Vec<(String, String, String)>,
    /// Whether mdBook's script would offer to run code on a public server.
    playground: bool,
}

#[derive(Default)]
struct Collector(RefCell<Page>);

impl TokenSink for Collector {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        use html5ever::tokenizer::states::RawKind;
        let Token::TagToken(tag) = token else { return TokenSinkResult::Continue };
        if tag.kind == TagKind::StartTag {
            self.0.borrow_mut().note(&tag);
            match &*tag.name {
                "script" => return TokenSinkResult::RawData(RawKind::ScriptData),
                "style" => return TokenSinkResult::RawData(RawKind::Rawtext),
                _ => {}
            }
        }
        TokenSinkResult::Continue
    }
}

impl Page {
    fn read(html: &str) -> Self {
        let queue = BufferQueue::default();
        queue.push_back(StrTendril::from(html));
        let tokenizer = Tokenizer::new(Collector::default(), TokenizerOpts::default());
        let _ = tokenizer.feed(&queue);
        tokenizer.end();
        tokenizer.sink.0.take()
    }

    fn note(&mut self, tag: &Tag) {
        for attribute in &tag.attrs {
            let (name, value) = (&*attribute.name.local, attribute.value.to_string());
            match name {
                "id" | "name" if name == "id" || &*tag.name == "a" => {
                    self.ids.insert(value);
                }
                "class" => self.playground |= value.split(' ').any(|c| c == "playground"),
                "href" | "src" | "srcset" | "poster" | "data" | "action" | "xlink:href" => {
                    self.references.push((tag.name.to_string(), name.to_owned(), value));
                }
                "style" if value.contains("url(") => {
                    self.references.push((tag.name.to_string(), name.to_owned(), value));
                }
                _ => {}
            }
        }
    }
}

/// Checks every file under `out`.
///
/// # Errors
/// One line for each link that leads nowhere and each load from elsewhere.
pub fn check(out: &Path) -> Result<()> {
    let mut files = Vec::new();
    list(out, &mut files)?;
    let mut pages = BTreeMap::new();
    let mut problems = Vec::new();
    for file in &files {
        let name = file.strip_prefix(out)?.to_string_lossy().into_owned();
        let kind = file.extension().unwrap_or_default().to_string_lossy().into_owned();
        if !matches!(kind.as_str(), "html" | "css" | "js" | "svg") {
            continue;
        }
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {name}"))?;
        match kind.as_str() {
            "html" => {
                pages.insert(name, Page::read(&text));
            }
            kind => {
                let mut found = loads(kind, &text);
                if kind == "css" {
                    found.extend(missing_assets(out, &name, &text));
                }
                problems.extend(found.into_iter().map(|problem| format!("{name}: {problem}")));
            }
        }
    }
    for (name, page) in &pages {
        problems.extend(page_problems(out, name, page, &pages));
    }
    if !problems.is_empty() {
        bail!("{} problem(s) in the rendered book:\n  {}", problems.len(), problems.join("\n  "));
    }
    Ok(())
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() { list(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

fn page_problems(
    out: &Path,
    name: &str,
    page: &Page,
    pages: &BTreeMap<String, Page>,
) -> Vec<String> {
    let mut problems = Vec::new();
    if page.playground {
        problems.push(format!("{name}: a runnable listing would call a public server"));
    }
    for (tag, attribute, value) in &page.references {
        let external = value.contains("://") || value.starts_with("//");
        if external && tag == "a" && attribute == "href" || value.starts_with("mailto:") {
            continue;
        }
        if external || attribute == "style" {
            problems.push(format!("{name}: <{tag} {attribute}> loads {value}"));
        } else if !value.starts_with("data:") && !leads_somewhere(out, name, value, pages) {
            problems.push(format!("{name}: <{tag} {attribute}=\"{value}\"> leads nowhere"));
        }
    }
    problems
}

fn leads_somewhere(out: &Path, name: &str, value: &str, pages: &BTreeMap<String, Page>) -> bool {
    let (path, fragment) = value.split_once('#').map_or((value, None), |(p, f)| (p, Some(f)));
    let path = path.split('?').next().unwrap_or_default();
    let mut parts: Vec<&str> = name.split('/').collect();
    if path.starts_with('/') {
        parts.clear();
    } else if !path.is_empty() {
        parts.pop();
    }
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match part {
            "." => {}
            ".." if parts.pop().is_none() => return false,
            ".." => {}
            part => parts.push(part),
        }
    }
    let mut target = parts.join("/");
    if out.join(&target).is_dir() {
        target = format!("{target}/index.html").trim_start_matches('/').to_owned();
    }
    match (pages.get(&target), fragment) {
        (Some(page), Some(id)) if !id.is_empty() => page.ids.contains(id),
        (Some(_), _) => true,
        (None, _) => out.join(&target).is_file(),
    }
}

/// What a style sheet, script or picture would load from elsewhere.
fn loads(kind: &str, text: &str) -> Vec<String> {
    // mdBook's script knows the playground, and asks it only on pages that have a runnable listing,
    // of which the page check allows none. The others name a license or an XML name space.
    const NOT_LOADED: &[&str] = &["https://play.rust-lang.org/", "http://www.w3.org/"];
    let pattern = match kind {
        "css" => r#"(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]+)"#,
        "svg" => r#"(?:href|src)\s*=\s*["']((?:https?:)?//[^"']+)"#,
        _ => r#"["'`](https?://[^"'`\s]+)"#,
    };
    let Ok(pattern) = Regex::new(pattern) else { return Vec::new() };
    let found = pattern.captures_iter(text).map(|c| c[1].to_owned());
    let foreign = found.filter(|url| !NOT_LOADED.iter().any(|known| url.starts_with(known)));
    foreign.map(|url| format!("loads {url}")).collect()
}

/// Fonts and pictures that a style sheet names and that are not there.
fn missing_assets(out: &Path, name: &str, css: &str) -> Vec<String> {
    let Ok(pattern) = Regex::new(r#"url\(\s*["']?([^"')]+)"#) else { return Vec::new() };
    let named = pattern.captures_iter(css).map(|c| c[1].to_owned());
    let here = named.filter(|url| !url.starts_with("data:") && !url.contains("//"));
    let missing = here.filter(|url| !leads_somewhere(out, name, url, &BTreeMap::new()));
    missing.map(|url| format!("{url} does not exist")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(html: &str) -> Vec<String> {
        let mut pages = BTreeMap::new();
        pages.insert("a/one.html".to_owned(), Page::read(html));
        pages.insert("two.html".to_owned(), Page::read("<h2 id=\"here\">Here</h2>"));
        page_problems(Path::new("no-such-directory"), "a/one.html", &pages["a/one.html"], &pages)
    }

    #[test]
    fn links_are_followed_to_their_fragment() {
        assert!(
            problems("<a href=\"../two.html#here\">x</a><a href=\"#top\" id=\"top\">").is_empty()
        );
        assert_eq!(problems("<a href=\"../two.html#there\">x</a>").len(), 1);
        assert_eq!(problems("<a href=\"two.html\">x</a>").len(), 1);
        assert_eq!(problems("<img src=\"none.png\">").len(), 1);
    }

    #[test]
    fn only_a_link_may_name_another_machine() {
        assert!(problems("<a href=\"https://example.org/x\">x</a>").is_empty());
        assert_eq!(problems("<script src=\"https://example.org/x.js\"></script>").len(), 1);
        assert_eq!(problems("<img src=\"//example.org/x.png\">").len(), 1);
        assert_eq!(problems("<p style=\"background: url(x)\">").len(), 1);
        assert_eq!(problems("<pre class=\"rust playground\">").len(), 1);
    }

    #[test]
    fn a_style_sheet_names_only_files_that_exist() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let css = "a { src: url('../Cargo.toml'), url(none.woff2), url(data:x) }";
        assert_eq!(missing_assets(here, "src/a.css", css), ["none.woff2 does not exist"]);
    }

    #[test]
    fn style_sheets_and_scripts_load_nothing() {
        assert_eq!(loads("css", "a { background: url('https://example.org/x') }").len(), 1);
        assert_eq!(loads("css", "@import \"//example.org/x.css\";").len(), 1);
        assert!(loads("css", "/* https://example.org */ a { src: url(x.woff2) }").is_empty());
        assert_eq!(loads("js", "fetch('https://example.org/x')").len(), 1);
        assert!(loads("js", "// see https://example.org\n'http://www.w3.org/2000/svg'").is_empty());
    }
}
