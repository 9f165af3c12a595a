//! `--launcher processes`.

use crate::world::{GUARD, Notes, PROMISE, Running, alive, demo, signal};
use std::os::unix::process::CommandExt;
use std::thread;
use std::time::{Duration, Instant};

pub const TESTS: &[(&str, fn())] = &[
    ("processes_finish_and_rank_0_speaks", finish),
    ("processes_wait_for_a_late_one", late),
    ("processes_killed_rank", killed_rank),
    ("processes_killed_rank_0", killed_rank_0),
    ("processes_killed_rank_among_careless_ones", killed_among_careless),
    ("processes_stopped_rank", stopped_rank),
    ("processes_all_stopped_and_continued", all_stopped),
    ("processes_error", error),
    ("processes_panic", panic),
    ("processes_exit_without_a_word", exit),
    ("processes_deep_in_a_computation", compute),
    ("processes_die_with_their_launcher", launcher_killed),
    ("processes_end_on_control_c", control_c),
];

fn world(ranks: usize, act: &str, notes: &Notes) -> Running {
    Running::start(demo("processes", "dp", ranks, 60.0, act, notes))
}

fn finish() {
    let notes = Notes::new();
    assert_eq!(world(4, "leave", &notes).success(), "rank 0 has talked\n");
    for rank in 0..4 {
        assert!(!alive(notes.pid(rank)), "rank {rank}");
    }
}

/// Ranks that end one after the other do not take each other for dead.
fn late() {
    world(3, "late", &Notes::new()).success();
}

fn kill_one(rank: usize, act: &str) {
    let notes = Notes::new();
    let world = world(3, act, &notes);
    let pids = [0, 1, 2].map(|rank| notes.pid(rank));
    signal("KILL", pids[rank]);
    let sentence = world.failure(PROMISE);
    assert_eq!(sentence, format!("rank dp{rank} pp0 cp0 tp0 was killed by signal 9"));
    assert_eq!(pids.map(alive), [false; 3]);
}

fn killed_rank() {
    kill_one(2, "talk");
}

fn killed_rank_0() {
    kill_one(0, "talk");
}

fn killed_among_careless() {
    // The others panic on the broken connection, but that is not the cause.
    kill_one(1, "unwrap");
}

fn stopped_rank() {
    let notes = Notes::new();
    let world = world(3, "talk", &notes);
    let pids = [0, 1, 2].map(|rank| notes.pid(rank));
    signal("STOP", pids[1]);
    let sentence = world.failure(GUARD);
    assert!(sentence.starts_with("rank dp1 pp0 cp0 tp0 has been silent for 10 s"), "{sentence}");
    assert_eq!(pids.map(alive), [false; 3]);
}

/// As when a person presses control-Z, does something else, and comes back.
fn all_stopped() {
    let notes = Notes::new();
    let mut world = world(3, "talk", &notes);
    let pids = [0, 1, 2].map(|rank| notes.pid(rank));
    pids.iter().for_each(|pid| signal("STOP", pid));
    thread::sleep(Duration::from_secs(12)); // longer than the silence that means death
    pids.iter().for_each(|pid| signal("CONT", pid));
    thread::sleep(Duration::from_secs(3));
    assert!(world.child.try_wait().unwrap().is_none(), "the run goes on");
    assert_eq!(pids.map(alive), [true; 3]);
}

fn error() {
    let sentence = world(4, "fail", &Notes::new()).failure(GUARD);
    assert_eq!(sentence, "rank dp1 pp0 cp0 tp0 failed: no space left");
}

fn panic() {
    let sentence = world(4, "panic", &Notes::new()).failure(GUARD);
    assert!(sentence.starts_with("rank dp1 pp0 cp0 tp0 panicked at "), "{sentence}");
    assert!(sentence.ends_with(": index 7 is out of bounds"), "{sentence}");
}

fn exit() {
    let sentence = world(3, "exit", &Notes::new()).failure(GUARD);
    assert_eq!(sentence, "rank dp1 pp0 cp0 tp0 ended with exit code 7");
}

fn compute() {
    let notes = Notes::new();
    let world = world(3, "compute", &notes);
    notes.pid(1); // fails now
    let sentence = world.failure(PROMISE);
    assert_eq!(sentence, "rank dp1 pp0 cp0 tp0 failed: no space left");
    assert!(!alive(notes.pid(0)) && !alive(notes.pid(2)));
}

fn all_gone(pids: [u32; 3]) {
    let end = Instant::now() + PROMISE;
    while pids.map(alive) != [false; 3] {
        assert!(Instant::now() < end, "{:?}", pids.map(alive));
        thread::sleep(Duration::from_millis(5));
    }
}

fn launcher_killed() {
    let notes = Notes::new();
    let world = world(3, "talk", &notes);
    let pids = [0, 1, 2].map(|rank| notes.pid(rank));
    signal("KILL", world.child.id());
    all_gone(pids);
}

fn control_c() {
    let notes = Notes::new();
    let mut command = demo("processes", "dp", 3, 60.0, "talk", &notes);
    command.process_group(0); // as a shell starts it
    // Tests that run in the background may have been told to ignore the signal; that is inherited.
    // SAFETY: between fork and exec only async-signal-safe functions may be called; `signal` is one.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        })
    };
    let world = Running::start(command);
    let pids = [0, 1, 2].map(|rank| notes.pid(rank));
    signal("INT", -i64::from(world.child.id()));
    let end = world.end(PROMISE);
    assert!(!end.status.success());
    all_gone(pids);
}
