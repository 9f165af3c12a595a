//! The decks of this very book: nothing that a chapter shows is lost, and nothing overflows.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn decks() -> Vec<(Chapter, String)> {
    let deck = |chapter: Chapter| {
        let slides = choose::slides(&chapter.blocks).unwrap();
        let html = deck::html(&root().join("book"), &chapter.name, &slides).unwrap();
        (chapter, html)
    };
    chapters(&root(), "no-slides").unwrap().into_iter().map(deck).collect()
}

/// The figures that slides have to show: those that are neither skipped nor the solution of an
/// exercise.
fn shown(blocks: &[Block]) -> Vec<&str> {
    let (mut found, mut class, mut is_folded, mut skip) = (Vec::new(), "", false, false);
    for block in blocks {
        match block {
            Block::Open(name) => class = name,
            Block::Close => class = "",
            Block::Fold | Block::Unfold => is_folded = matches!(block, Block::Fold),
            Block::Figure { html, .. } if !(skip || is_folded && class == "exercise") => {
                found.push(html.as_str());
            }
            _ => {}
        }
        skip = *block == Block::Mark("skip".to_owned());
    }
    found
}

#[test]
fn every_chapter_has_a_deck_with_all_its_pictures_and_listings() {
    let decks = decks();
    let stems: Vec<&str> = decks.iter().map(|(chapter, _)| chapter.stem.as_str()).collect();
    for step in steps::load(&root()).unwrap() {
        assert!(stems.contains(&step.name.as_str()), "{} has no deck: {stems:?}", step.name);
    }
    let mut count = 0;
    for (chapter, deck) in &decks {
        for figure in shown(&chapter.blocks) {
            count += 1;
            if figure.starts_with("<figure class=\"picture") {
                assert!(deck.contains(figure.trim()), "{}: {figure:.300}", chapter.stem);
                continue;
            }
            let whole = listing::Listing::read(figure).html();
            let rows = whole.split("<span class=\"row").skip(1);
            let rows = rows.map(|row| row.split("\n</span>").next().unwrap());
            rows.for_each(|row| {
                assert!(deck.contains(row), "{}: no slide has {row}", chapter.stem)
            });
        }
    }
    assert!(count > 200, "only {count} figures");
}

#[test]
fn a_mark_keeps_a_block_from_the_slides_or_puts_it_there() {
    let slides = |mark: &str| {
        let text =
            format!("# A\n\nB.\n\n## C\n\n<!-- slide: {mark} -->\n\nD. E.\n\n```sh\nrun\n```\n");
        let found = blocks(&text, Path::new("."), &[]).unwrap();
        choose::slides(&found)
            .map(|slides| slides.iter().map(|slide| slide.body.clone()).collect::<Vec<_>>())
    };
    assert!(slides("show").unwrap()[1].contains("D. E."));
    assert!(!slides("skip").unwrap().concat().contains("E."));
    let error = slides("hide").unwrap_err().to_string();
    assert_eq!(error, "`<!-- slide: hide -->`: the word is skip or show");
}

/// Measures each slide. Needs a browser: without one, this part of the check says so and passes.
#[test]
fn no_slide_overflows_and_code_can_be_read() {
    const MEASURE: &str = "<script>document.body.className = '';
        const found = [];
        for (const slide of document.querySelectorAll('.slide')) {
            const room = slide.querySelector('.room');
            const over = Math.max(room.scrollHeight - room.clientHeight, room.scrollWidth - room.clientWidth);
            if (over > 1) found.push(`${slide.id}: ${over} px too much`);
            const title = slide.querySelector('h2');
            if (title && title.scrollWidth > title.clientWidth) found.push(`${slide.id}: the heading is cut`);
            for (const code of slide.querySelectorAll('.row, pre code'))
                if (parseFloat(getComputedStyle(code).fontSize) < 20) found.push(`${slide.id}: small code`);
        }
        document.body.innerHTML = `<p id=measured>${found.join('\\n')}</p>`;</script>";
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let runs = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let Some(browser) = names.into_iter().find(|name| runs(name)) else {
        println!("There is no chromium here: slides are not measured.");
        return;
    };
    let dir = std::env::temp_dir().join(format!("ferrotron-slides-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let mut problems = Vec::new();
    for (chapter, deck) in decks() {
        let file = dir.join(format!("{}.html", chapter.stem));
        std::fs::write(&file, deck.replace("</body>", &format!("{MEASURE}</body>"))).unwrap();
        let out = Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900"])
            .arg(format!("--user-data-dir={}", dir.join("profile").display()))
            .arg("--dump-dom")
            .arg(format!("file://{}", file.display()))
            .output()
            .unwrap();
        let dom = String::from_utf8_lossy(&out.stdout).into_owned();
        let measured = dom.split("<p id=\"measured\">").nth(1);
        let measured = measured.unwrap_or_else(|| panic!("{browser} did not measure: {dom:.200}"));
        let lines = measured.split("</p>").next().unwrap_or_default().lines();
        problems.extend(lines.filter(|l| !l.is_empty()).map(|l| format!("{} {l}", chapter.stem)));
    }
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
