//! Settings that come with a later step: an earlier one says so, rather than call them unknown.

/// First step, table, names.
const COME_WITH: &[(u8, &str, &[&str])] = &[
    (2, "parallel", &["dp", "dp-sync", "bucket-mb"]),
    (3, "parallel", &["tp", "tp-sync"]),
    (4, "parallel", &["pp", "schedule"]),
    (5, "parallel", &["cp", "cp-layout"]),
    (6, "data", &["eval-data"]),
    (6, "train", &["eval-every", "eval-batches"]),
    (6, "run", &["save", "save-every", "save-keep", "resume", "export-hf", "dry-run", "gpu"]),
    (7, "parallel", &["sequence-parallel", "sp-gather", "recompute"]),
    (7, "run", &["memory"]),
];

/// A setting of a later step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Later {
    /// The first step that knows it.
    pub since: u8,
    /// Its table in a configuration file.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
}

/// The settings that come after `step`.
pub fn later_than(step: u8) -> impl Iterator<Item = Later> {
    COME_WITH.iter().filter(move |(since, ..)| *since > step).flat_map(|&(since, table, names)| {
        names.iter().map(move |&name| Later { since, table, name })
    })
}

/// The setting of this name, if it comes after `step`.
pub(crate) fn find(step: u8, name: &str) -> Option<Later> {
    later_than(step).find(|later| later.name == name)
}
