//! Values that begin with a hyphen.

mod steps;

use std::path::PathBuf;

fn parse(args: &[&str]) -> steps::Config {
    cli::parse(&steps::program(6), args, |_| None).unwrap().config
}

#[test]
fn a_text_may_begin_with_a_hyphen() {
    let texts = ["- x", "-x", "--", "-", "-h x", "--Why", "-- once", "--so it is", "-1", "--a=b c"];
    for text in texts {
        assert_eq!(parse(&["--steps", "3", "--prompt", text, "--lr", "1"]).run.prompt, text);
    }
    assert_eq!(parse(&["--prompt=--steps"]).run.prompt, "--steps");
}

#[test]
fn a_path_may_begin_with_a_hyphen() {
    let args = ["--dry-run", "--save", "-s", "--trace", "-t.json", "--metrics", "--m.jsonl"];
    let config = parse(&args);
    let paths =
        [config.checkpoints.save, config.run.trace, config.run.metrics].map(|path| path.unwrap());
    assert_eq!(paths, ["-s", "-t.json", "--m.jsonl"].map(PathBuf::from));
}
