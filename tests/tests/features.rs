//! Whichever package is built, every dependency is built in the same way: so none is compiled twice,
//! and least of all libtorch's bindings, which take minutes.

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// What `cargo` prints under these arguments, in this workspace.
fn cargo(arguments: &str) -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    cargo.env("RUSTC_BOOTSTRAP", "1"); // the graph of units is no stable option
    let output = cargo.args(arguments.split(' ')).arg("--offline").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A piece of work for the compiler: a package, and all that makes cargo tell it from another piece
/// of the same package. What it depends on is part of that.
type Unit = (String, String);

/// The pieces of work that `command` stands for, those of dependencies alone, each behind those that
/// it depends on.
fn units(command: &str) -> Vec<Unit> {
    let graph = cargo(&format!("{command} --unit-graph -Z unstable-options"));
    let units = graph["units"].as_array().unwrap();
    let mut found = vec![None; units.len()];
    let mut order = vec![];
    for at in 0..units.len() {
        visit(units, at, &mut found, &mut order);
    }
    order
}

fn visit(
    units: &[Value],
    at: usize,
    found: &mut [Option<String>],
    order: &mut Vec<Unit>,
) -> String {
    if let Some(known) = &found[at] {
        return known.clone();
    }
    let unit = &units[at];
    let mut profile = unit["profile"].clone();
    profile.as_object_mut().unwrap().remove("name"); // `cargo test` calls it `test`
    let mut below: Vec<String> = unit["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|unit| visit(units, unit["index"].as_u64().unwrap() as usize, found, order))
        .collect();
    below.sort();
    let what = [&unit["pkg_id"], &unit["target"]["kind"], &unit["mode"], &unit["features"]];
    let key = format!("{what:?} {profile} {below:?}");
    // Keys of keys would grow without end.
    let key = digest(&key);
    found[at] = Some(key.clone());
    let package = unit["pkg_id"].as_str().unwrap();
    if !package.starts_with("path+") {
        let package = package.rsplit('#').next().unwrap();
        order.push((format!("{package} with {}", unit["features"]), key.clone()));
    }
    key
}

fn digest(text: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, text).hash(&mut hasher);
        hasher.finish() as u128
    };
    format!("{:x}", (half(0) << 64) | half(1))
}

#[test]
fn no_command_compiles_a_dependency_that_another_one_has_compiled() {
    let whole: BTreeSet<Unit> = units("test --workspace").into_iter().collect();
    assert!(whole.iter().any(|(package, _)| package.starts_with("torch-sys@")), "{whole:?}");

    let packages = cargo("metadata --no-deps --format-version 1");
    let packages = packages["packages"].as_array().unwrap();
    assert!(packages.len() > 15, "{} packages", packages.len());
    for package in packages {
        for command in ["build", "test"] {
            let command = format!("{command} -p {}", package["name"].as_str().unwrap());
            // The first one that is new; what depends on it is new for that reason alone.
            let new = units(&command).into_iter().find(|unit| !whole.contains(unit));
            assert!(
                new.is_none(),
                "`cargo {command}` compiles {} anew, after `cargo test --workspace`: name the features \
                 that it lacks, or that what it depends on lacks, in shared/features/Cargo.toml",
                new.unwrap().0
            );
        }
    }
}
