//! `report memory`: what a rank of several runs holds, in one picture.

use report::{MemoryLine, write_memory};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn memory(dir: &Path, args: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_report"));
    command.current_dir(dir).arg("memory").args(args.split(' ')).output().unwrap()
}

/// Two ranks, the second of which holds a tenth.
fn write(dir: &Path, name: &str, bytes: i64) {
    let line = |rank: &str, bytes: i64| MemoryLine {
        rank: rank.into(),
        changes: vec![(1.0, bytes), (2.0, -bytes)],
        ..MemoryLine::default()
    };
    let lines = [line("dp0 pp0", bytes), line("dp0 pp1", bytes / 10)];
    fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
    write_memory(&dir.join(name), &lines).unwrap();
}

#[test]
fn runs_are_drawn_over_each_other_and_named_as_asked_or_after_their_files() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a/none.svg", 40 << 20);
    write(dir.path(), "a/layer.svg", 10 << 20);
    write(dir.path(), "b/layer.svg", 20 << 20);
    let drawn = |args: &str| {
        let ended = memory(dir.path(), &format!("{args} --out x.svg"));
        assert!(ended.status.success() && ended.stdout.is_empty() && ended.stderr.is_empty());
        fs::read_to_string(dir.path().join("x.svg")).unwrap()
    };
    let svg = drawn("a/none.json a/layer.json");
    for said in [">none: peak 40 MiB at 1.0 ms<", ">layer: peak 10 MiB at 1.0 ms<", ">dp0 pp0<"] {
        assert!(svg.contains(said), "{said}: {svg}");
    }
    let svg = drawn("a/none.json a/layer.json --rank pp1 --names all,few");
    for said in [">all: peak 4 MiB at 1.0 ms<", ">few: peak 1 MiB at 1.0 ms<", ">dp0 pp1<"] {
        assert!(svg.contains(said), "{said}: {svg}");
    }
    let svg = drawn("a/layer.json b/layer.json");
    assert!(svg.contains(">a/layer.json: peak 10 MiB") && svg.contains(">b/layer.json: peak 20"));
}

#[test]
fn what_cannot_be_drawn_ends_in_one_sentence_and_draws_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "m.svg", 1000);
    fs::write(dir.path().join("notes.txt"), "Once\n").unwrap();
    let said = |args: &str| {
        let ended = memory(dir.path(), args);
        assert_eq!(ended.status.code(), Some(2), "{args}");
        String::from_utf8(ended.stderr).unwrap()
    };
    let missing = "error: memory no.json: No such file or directory (os error 2)\n";
    assert_eq!(said("no.json --out x.svg"), missing);
    let other = "error: memory notes.txt: it is not what a run has written beside its picture";
    assert!(said("m.json notes.txt --out x.svg").starts_with(other));
    let same =
        "error: out m.json is one of the runs, and would be overwritten: name another file\n";
    assert_eq!(said("m.json --out m.json"), same);
    let names = "error: 2 names for 1 runs, give each its own: --names a,b\n";
    assert_eq!(said("m.json --names a,b --out x.svg"), names);
    let rank = "error: m: there is no rank pp2, only dp0 pp0, dp0 pp1\n";
    assert_eq!(said("m.json --rank pp2 --out x.svg"), rank);
    assert!(said("m.json --out no/x.svg").starts_with("error: cannot write no/x.svg: "));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}
