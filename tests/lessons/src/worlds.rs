//! Worlds of ranks, each a thread. No test waits longer than [`PATIENCE`] for a rank.

use anyhow::Result;
use cli::{Program, Settings, Start};
use comm::{Coords, Layout, Mesh};
use launch::Launch;
use std::any::Any;
use std::time::Duration;

/// Longest wait of a rank for another: a lesson that is not right yet may have one wait for a
/// message that never comes.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// Runs `rank_main` on every rank of `layout`; what they return, in rank order.
#[track_caller]
pub fn world<T: Send + 'static>(
    layout: Layout,
    rank_main: impl Fn(&Mesh) -> Result<T> + Send + Sync + 'static,
) -> Vec<T> {
    world_of(&Launch { layout, timeout: PATIENCE, ..Launch::default() }, rank_main)
}

/// As [`world`], started as a step's settings say.
#[track_caller]
pub fn world_of<T: Send + 'static>(
    launch: &Launch,
    rank_main: impl Fn(&Mesh) -> Result<T> + Send + Sync + 'static,
) -> Vec<T> {
    match attempt(launch, rank_main) {
        Ok(values) => values,
        Err(error) => panic!("{error:#}"),
    }
}

/// How a world ends that should fail: the sentence, or `None` if every rank went through.
pub fn world_error<T: Send + 'static>(
    launch: &Launch,
    rank_main: impl Fn(&Mesh) -> Result<T> + Send + Sync + 'static,
) -> Option<String> {
    attempt(launch, rank_main).err().map(|error| format!("{error:#}"))
}

fn attempt<T: Send + 'static>(
    launch: &Launch,
    rank_main: impl Fn(&Mesh) -> Result<T> + Send + Sync + 'static,
) -> Result<Vec<T>> {
    let values = of_any(launch, Box::new(move |mesh| Ok(Box::new(rank_main(mesh)?) as Value)))?;
    let typed = |value: Value| *value.downcast().expect("every rank returns this type");
    Ok(values.into_iter().map(typed).collect())
}

type Value = Box<dyn Any + Send>;
type Main = Box<dyn Fn(&Mesh) -> Result<Value> + Send + Sync>;

/// Not generic: launchers are compiled here, once, and not with each test that starts ranks.
fn of_any(launch: &Launch, main: Main) -> Result<Vec<Value>> {
    launch::launch(launch, main)
}

/// A step's settings under these flags, as its binary would read them.
#[track_caller]
pub fn start<C: Settings>(step: u8, flags: &[String]) -> Start<C> {
    let program = Program { step, about: "", layout: Layout::default() };
    match cli::parse(&program, flags.iter().cloned(), |_| None) {
        Ok(start) => start,
        Err(refusal) => panic!("{refusal}"),
    }
}

/// Runs what has no other ranks as a rank would: with one thread inside an operation.
pub fn alone<T>(main: impl FnOnce() -> T) -> T {
    tch::set_num_threads(1);
    main()
}

/// A rank's name in a message, by the dimensions that have more than one: "tp rank 1".
pub fn place(layout: Layout, coords: Coords) -> String {
    let all = [
        ("dp", layout.dp, coords.dp),
        ("pp", layout.pp, coords.pp),
        ("cp", layout.cp, coords.cp),
        ("tp", layout.tp, coords.tp),
    ];
    let several = all.iter().filter(|(_, size, _)| *size > 1);
    let names: Vec<String> = several.map(|(name, _, rank)| format!("{name} rank {rank}")).collect();
    if names.is_empty() { "the only rank".into() } else { names.join(", ") }
}
