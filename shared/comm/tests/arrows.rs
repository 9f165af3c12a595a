//! The first page of a crate lists its files in the order in which they can be read: each uses only
//! those above it.

use std::fs;
use std::path::{Path, PathBuf};

/// `ring` in ``//! 8. `ring`: the collectives``.
fn listed(line: &str) -> Option<&str> {
    let (number, name) = line.strip_prefix("//! ")?.split_once(". `")?;
    number.parse::<usize>().ok()?;
    Some(name.split_once('`')?.0)
}

/// All files under `dir` but those that only tests use.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.file_stem().unwrap() == "tests" {
            true => {}
            false if entry.is_dir() => found.extend(files(&entry)),
            false => found.push(entry),
        }
    }
    found
}

/// What follows each `crate::` in the code of a file, without its tests.
fn used(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap().lines();
    let code: Vec<_> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    code.join("\n").split("crate::").skip(1).map(word).collect()
}

#[test]
fn each_file_uses_only_those_above_it() {
    for name in ["comm", "launch", "nccl"] {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let page = fs::read_to_string(src.join("lib.rs")).unwrap();
        let order: Vec<&str> = page.lines().filter_map(listed).collect();
        let place = |room: &str| order.iter().position(|listed| *listed == room);
        let mut rooms = 0;
        for file in files(&src) {
            let room = file.strip_prefix(&src).unwrap().with_extension("");
            let room = room.components().next().unwrap().as_os_str().to_str().unwrap();
            if room == "lib" {
                continue;
            }
            rooms += usize::from(file.parent() == Some(&src));
            let shown = file.display();
            let here =
                place(room).unwrap_or_else(|| panic!("the first page does not list {shown}"));
            for used in used(&fs::read_to_string(&file).unwrap()) {
                let there = place(&used);
                assert!(there.is_some_and(|there| there < here), "{shown} uses crate::{used}");
            }
        }
        assert_eq!(rooms, order.len(), "what {name} lists and what it has");
    }
}
