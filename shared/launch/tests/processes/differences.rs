//! `--launcher env`: ranks that were not told the same.

use crate::by_hand::World;
use crate::world::{GUARD, Running};
use std::process::Command;
use std::time::Duration;

pub const TESTS: &[(&str, fn())] = &[
    ("env_layouts_differ", layouts_differ),
    ("env_settings_differ", settings_differ),
    ("env_latecomer_with_other_settings", latecomer),
];

/// Both ranks end with one sentence, which says the difference.
fn assert_differ(ranks: [Command; 2], expected: &str) {
    for rank in ranks.map(Running::start) {
        let sentence = rank.failure(GUARD);
        assert!(sentence.contains(expected), "{sentence}");
    }
}

fn layouts_differ() {
    let world = World::new(2, "leave");
    let mut other = World::new(2, "leave");
    (other.port, other.dimension) = (world.port, "tp");
    assert_differ(
        [world.command(0), other.command(1)],
        "process 1 was started with dp 1 pp 1 cp 1 tp 2 and rank 0 with dp 2 pp 1 cp 1 tp 1",
    );
}

fn settings_differ() {
    let world = World::new(2, "leave");
    let ranks = [(0, "lr 0.001"), (1, "lr 0.03")].map(|(rank, setting)| {
        let mut command = world.command(rank);
        command.env("AGREEMENT", setting);
        command
    });
    assert_differ(ranks, "process 1 was started with lr 0.03 and rank 0 with lr 0.001");
}

/// Somebody starts another run with the port of one that goes on.
fn latecomer() {
    let world = World::new(2, "talk");
    let ranks = [0, 1].map(|rank| Running::start(world.command(rank)));
    world.pids();
    let mut other = world.command(1);
    other.env("AGREEMENT", "lr 0.03");
    let sentence = Running::start(other).failure(GUARD);
    assert!(sentence.contains("process 1 was started with lr 0.03"), "{sentence}");
    std::thread::sleep(Duration::from_secs(3)); // bad news would have got about by now
    for mut rank in ranks {
        assert!(rank.child.try_wait().unwrap().is_none(), "the run goes on");
    }
}
