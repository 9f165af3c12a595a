//! Texts and their tokens.

mod refused;

use insta::assert_snapshot;
use refused::{dir, refused_by, steps};
use std::path::Path;

/// A tokenizer of 420 tokens, of which `<|endoftext|>`, one more, was added.
const TOKENIZER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/tests/tokenizers/gpt2.json");

fn parse(args: &str) {
    steps::step06(args.split_whitespace()).unwrap();
}

/// The number of files in a directory.
fn files_in(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn an_added_token_may_be_outside_the_vocabulary_until_a_text_has_it() {
    let dir = dir();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("m.toml"), "[model]\nvocab_size = 420").unwrap();
    std::fs::write(path("less.toml"), "[model]\nvocab_size = 419").unwrap();
    std::fs::write(path("without.txt"), "the end ".repeat(300)).unwrap();
    std::fs::write(path("with.txt"), "the end ".repeat(300) + "<|endoftext|>").unwrap();
    std::fs::copy(TOKENIZER, path("tokenizer.json")).unwrap();
    let args = format!("--tokenizer {TOKENIZER} --config {}", path("m.toml").display());
    parse(&format!("{args} --data {}", path("without.txt").display()));
    let refused = |args: &str| {
        refused_by(6, &format!("--tokenizer DIR/tokenizer.json {args}"), &[], dir.path())
    };
    assert_snapshot!(refused("--config DIR/m.toml --data DIR/with.txt"), @"data file DIR/with.txt: token 420 at position 1500 is outside the vocabulary of 420");
    assert_snapshot!(refused("--config DIR/m.toml --prompt <|endoftext|>"), @r#"prompt is "<|endoftext|>", but its token 420 is outside the vocabulary of 420: use another prompt"#);
    // Without the tokens that its model makes, a tokenizer is of no use.
    assert_snapshot!(refused("--config DIR/less.toml --data DIR/without.txt"), @"vocab_size is 419, but must be at least 420: tokenizer DIR/tokenizer.json has 420 tokens");
}

#[test]
fn the_tokens_of_a_long_text_are_kept_where_the_user_says() {
    let dir = dir();
    let (text, cache) = (dir.path().join("long-story.txt"), dir.path().join("cache"));
    std::fs::write(&text, data::corpus::text(data::corpus::SIZE)).unwrap();
    std::fs::write(dir.path().join("m.toml"), "[model]\nvocab_size = 512").unwrap();
    let config = dir.path().join("m.toml");
    let shown = [config.display(), text.display(), cache.display()];
    let [config, text, cache_dir] = shown;
    let before = files_in(dir.path());
    let args =
        format!("--config {config} --tokenizer {TOKENIZER} --data {text} --data-cache {cache_dir}");
    parse(&args);
    assert_eq!((files_in(dir.path()), files_in(&cache)), (before + 1, 1));
    parse(&args);
    assert_eq!(files_in(&cache), 1);
    std::fs::copy(TOKENIZER, dir.path().join("tokenizer.json")).unwrap();
    let wrong = "--config DIR/m.toml --tokenizer DIR/tokenizer.json --data DIR/long-story.txt --data-cache DIR/m.toml";
    assert_snapshot!(refused_by(1, wrong, &[], dir.path()), @"data file DIR/long-story.txt: its tokens cannot be kept in data-cache DIR/m.toml: File exists (os error 17)");
}

#[test]
fn held_out_text_is_read_in_its_order_whatever_the_seed() {
    let first = |seed: usize, shuffle: &str| {
        let args = format!("--eval-every 1 --seed {seed} {shuffle}");
        let mut start: cli::Start<steps::Config> =
            cli::parse(&steps::program(6), args.split_whitespace(), |_| None).unwrap();
        let texts = step06::held_out::open(&mut start).unwrap().unwrap();
        let held_out = step06::held_out::batches(&start.config, &texts, 0, 1).unwrap();
        let batches = held_out.unwrap().step(0).unwrap();
        batches.into_iter().map(|batch| batch.inputs).collect::<Vec<_>>()
    };
    let plain = first(1, "");
    assert_eq!(plain, first(1, "--shuffle"));
    assert_eq!(plain, first(2, "--shuffle"));
}
