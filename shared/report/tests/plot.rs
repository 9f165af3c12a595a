//! `report plot`: the losses of several runs in one picture.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn plot(dir: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report"));
    command.current_dir(dir).args(args.split(' ')).output().unwrap()
}

fn write(dir: &Path, name: &str, losses: &[f64]) {
    let line = |(step, loss)| format!("{{\"step\":{step},\"loss\":{loss:?}}}\n");
    let text: String = (1..).zip(losses).map(line).collect();
    fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
    fs::write(dir.join(name), text).unwrap();
}

#[test]
fn runs_are_drawn_over_each_other_and_named_after_their_files() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "wide.jsonl", &[5.0, 4.0, 3.0]);
    write(dir.path(), "deep.jsonl", &[5.5, 3.5]);
    let ended = plot(dir.path(), "plot wide.jsonl deep.jsonl --out both.svg");
    assert!(ended.status.success() && ended.stdout.is_empty() && ended.stderr.is_empty());
    let svg = fs::read_to_string(dir.path().join("both.svg")).unwrap();
    let told = "wide, training: from 5.0000 at step 1 to 3.0000 at step 3. \
                deep, training: from 5.5000 at step 1 to 3.5000 at step 2.";
    assert!(svg.contains(told), "{svg}");
    // Two of one name go by their paths.
    write(dir.path(), "a/m.jsonl", &[2.0, 1.0]);
    write(dir.path(), "b/m.jsonl", &[2.0, 1.5]);
    assert!(plot(dir.path(), "plot a/m.jsonl b/m.jsonl --out both.svg").status.success());
    let svg = fs::read_to_string(dir.path().join("both.svg")).unwrap();
    assert!(svg.contains("a/m.jsonl, training") && svg.contains("b/m.jsonl, training"));
}

#[test]
fn what_cannot_be_drawn_ends_in_one_sentence_and_draws_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "m.jsonl", &[5.0]);
    fs::write(dir.path().join("notes.txt"), "Once\n").unwrap();
    let said = |args: &str| {
        let ended = plot(dir.path(), args);
        assert_eq!(ended.status.code(), Some(2), "{args}");
        String::from_utf8(ended.stderr).unwrap()
    };
    let missing = "error: metrics no.jsonl: No such file or directory (os error 2)\n";
    assert_eq!(said("plot no.jsonl --out x.svg"), missing);
    let other =
        "error: metrics notes.txt: it holds lines that are not metrics: name another file\n";
    assert_eq!(said("plot m.jsonl notes.txt --out x.svg"), other);
    let same =
        "error: out m.jsonl is one of the metrics, and would be overwritten: name another file\n";
    assert_eq!(said("plot m.jsonl --out m.jsonl"), same);
    assert!(said("plot m.jsonl --out no/x.svg").starts_with("error: cannot write no/x.svg: "));
    assert!(said("plot m.jsonl").contains("--out <FILE>"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}
