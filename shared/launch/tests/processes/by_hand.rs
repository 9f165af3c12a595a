//! `--launcher env`: every rank is started by the test, as a cluster's launcher would.

use crate::world::{
    GUARD, Notes, PROMISE, Running, alive, demo, free_port, signal, two_free_ports,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

pub const TESTS: &[(&str, fn())] = &[
    ("env_finish", finish),
    ("env_killed_rank", killed_rank),
    ("env_killed_rank_0", killed_rank_0),
    ("env_stopped_rank", stopped_rank),
    ("env_stopped_rank_0", stopped_rank_0),
    ("env_error", error),
    ("env_rank_that_cannot_begin", cannot_begin),
    ("env_under_torchrun", torchrun),
    ("env_strangers", strangers),
    ("env_wrong_secret", wrong_secret),
    ("env_rank_0_must_know_the_secret", wrong_rank_0),
    ("env_duplicate_rank", duplicate),
    ("env_missing_rank", missing),
    ("env_nobody_listens", nobody),
    ("env_port_taken", port_taken),
    ("env_wrong_world_size", wrong_world_size),
];

/// What all ranks of a world are told alike.
pub struct World {
    notes: Notes,
    pub port: u16,
    ranks: usize,
    act: &'static str,
    timeout: f64,
    secret: &'static str,
    pub dimension: &'static str,
}

impl World {
    pub fn new(ranks: usize, act: &'static str) -> Self {
        let (notes, port) = (Notes::new(), free_port());
        Self { notes, port, ranks, act, timeout: 60.0, secret: "open sesame", dimension: "dp" }
    }

    fn start(&self, rank: usize) -> Running {
        Running::start(self.command(rank))
    }

    pub fn command(&self, rank: usize) -> Command {
        let &World { port, ranks, act, timeout, secret, dimension, .. } = self;
        let mut command = demo("env", dimension, ranks, timeout, act, &self.notes);
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", ranks.to_string());
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        command.env("FERROTRON_SECRET", secret);
        command
    }

    fn all(&self) -> Vec<Running> {
        (0..self.ranks).map(|rank| self.start(rank)).collect()
    }

    pub fn pids(&self) -> Vec<u32> {
        (0..self.ranks).map(|rank| self.notes.pid(rank)).collect()
    }
}

fn finish() {
    for timeout in [60.0, f64::INFINITY] {
        let world = World { timeout, ..World::new(3, "leave") };
        for (rank, running) in world.all().into_iter().enumerate() {
            assert_eq!(running.success(), format!("rank {rank} has talked\n"));
        }
    }
}

fn kill_one(victim: usize) {
    let world = World::new(4, "talk");
    let mut running = world.all();
    let pids = world.pids();
    drop(running.remove(victim)); // kills it
    let killed = Instant::now();
    for rank in running {
        let sentence = rank.failure(PROMISE.saturating_sub(killed.elapsed()));
        let expected = format!("rank dp{victim} pp0 cp0 tp0 has died");
        assert!(sentence.starts_with(&expected), "{sentence}");
    }
    assert!(!pids.into_iter().any(alive));
}

fn killed_rank() {
    kill_one(2);
}

fn killed_rank_0() {
    kill_one(0);
}

fn stop_one(victim: usize) {
    let world = World::new(3, "talk");
    let mut running = world.all();
    signal("STOP", world.pids()[victim]);
    let stopped = running.remove(victim);
    let expected = format!("rank dp{victim} pp0 cp0 tp0 has been silent for 10 s");
    for rank in running {
        let sentence = rank.failure(GUARD);
        assert!(sentence.starts_with(&expected), "{sentence}");
    }
    // Once it may go on, it notices that the others have left.
    signal("CONT", stopped.child.id());
    stopped.failure(GUARD);
}

fn stopped_rank() {
    stop_one(1);
}

fn stopped_rank_0() {
    stop_one(0);
}

fn error() {
    for rank in World::new(3, "fail").all() {
        assert_eq!(rank.failure(GUARD), "rank dp1 pp0 cp0 tp0 failed: no space left");
    }
}

/// It has met the others, but has no groups yet.
fn cannot_begin() {
    let world = World::new(2, "talk");
    let mut no_threads = world.command(1);
    no_threads.env("THREADS", "0"); // which libtorch refuses
    for rank in [world.command(0), no_threads].map(Running::start) {
        let sentence = rank.failure(GUARD);
        assert!(sentence.starts_with("rank dp1 pp0 cp0 tp0 panicked at"), "{sentence}");
        assert!(sentence.contains("positive number of threads"), "{sentence}");
    }
}

/// Torchrun listens at MASTER_PORT itself.
fn torchrun() {
    let port = two_free_ports();
    let store = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let world = World { port, ..World::new(2, "leave") };
    let ranks = [0, 1].map(|rank| {
        let mut command = world.command(rank);
        command.env("TORCHELASTIC_RUN_ID", "none");
        Running::start(command)
    });
    for rank in ranks {
        rank.success();
    }
    drop(store);
}

/// Connects as soon as somebody listens.
fn visit(port: u16) -> TcpStream {
    let end = Instant::now() + GUARD;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn strangers() {
    let world = World::new(2, "leave");
    let rank_0 = world.start(0);
    let mute = visit(world.port);
    let mut babbler = visit(world.port);
    babbler.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let mut flood = visit(world.port);
    // Refused after the first few of these; an error means that it was cut off already.
    let _ = flood.write_all(&vec![b'x'; 1 << 20]);
    let rank_1 = world.start(1);
    rank_0.success();
    rank_1.success();
    // The one who talked nonsense was let go without a word about the run.
    let mut answer = String::new();
    let _ = babbler.read_to_string(&mut answer);
    assert!(answer.starts_with(r#"{"Challenge""#) && answer.lines().count() == 1, "{answer}");
    drop(mute);
}

fn wrong_secret() {
    let world = World::new(2, "leave");
    let rank_0 = world.start(0);
    let impostor = World { port: world.port, secret: "guess", ..World::new(2, "leave") };
    let sentence = impostor.start(1).failure(GUARD);
    let expected = format!("rank 0 at 127.0.0.1:{} refused rank dp1 pp0 cp0 tp0", world.port);
    assert!(sentence.contains(&expected) && sentence.contains("FERROTRON_SECRET"), "{sentence}");
    // The run is none the worse for it.
    let rank_1 = world.start(1);
    rank_0.success();
    rank_1.success();
}

fn wrong_rank_0() {
    // Somebody else listens where rank 0 should, and lets everyone in.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let zeros = vec!["0"; 32].join(",");
            let _ = writeln!(&stream, r#"{{"Challenge":{{"nonce":[{zeros}]}}}}"#);
            let _ = writeln!(&stream, r#"{{"Welcome":{{"proof":[{zeros}]}}}}"#);
            std::mem::forget(stream); // stays open
        }
    });
    let world = World { port, timeout: 0.5, ..World::new(2, "leave") };
    let sentence = world.start(1).failure(GUARD);
    assert!(sentence.contains("does not know FERROTRON_SECRET"), "{sentence}");
}

fn duplicate() {
    let world = World::new(2, "talk");
    let ranks = world.all();
    world.pids();
    let sentence = world.start(1).failure(GUARD);
    assert!(sentence.contains("rank dp1 pp0 cp0 tp0 (RANK 1) has already joined"), "{sentence}");
    for mut rank in ranks {
        assert!(rank.child.try_wait().unwrap().is_none(), "the run goes on");
    }
}

fn missing() {
    let world = World { timeout: 2.0, ..World::new(4, "leave") };
    let ranks = [world.start(0), world.start(2)];
    for rank in ranks {
        let sentence = rank.failure(GUARD);
        let expected = "rank dp1 pp0 cp0 tp0, rank dp3 pp0 cp0 tp0 never came";
        assert!(sentence.contains(expected), "{sentence}");
    }
}

fn nobody() {
    let world = World { timeout: 0.5, ..World::new(2, "leave") };
    let sentence = world.start(1).failure(GUARD);
    let expected = format!("rank dp1 pp0 cp0 tp0 found no rank 0 at 127.0.0.1:{}", world.port);
    assert!(sentence.starts_with(&expected), "{sentence}");
}

fn port_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sentence = World { port, ..World::new(2, "leave") }.start(0).failure(GUARD);
    assert!(sentence.contains("choose another MASTER_PORT"), "{sentence}");
}

fn wrong_world_size() {
    let world = World::new(2, "leave");
    let mut command = demo("env", "dp", 3, 1.0, "leave", &world.notes);
    command.envs([("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1")]);
    command.env("MASTER_PORT", world.port.to_string());
    let sentence = Running::start(command).failure(GUARD);
    assert_eq!(sentence, "WORLD_SIZE is 2, but dp 3 · pp 1 · cp 1 · tp 1 takes 3 ranks");
}
