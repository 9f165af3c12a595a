//! How a run ends when the system wants it to: signals, and limits.

mod common;

use common::{children, flags, without_launcher};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use libc::RLIMIT_FSIZE as FSIZE;

/// The product's promise for a run that does not save.
const PROMISE: Duration = Duration::from_secs(5);
/// Only so that a test that hangs ends too.
const GUARD: Duration = Duration::from_secs(120);
/// More than any test waits for.
const FOREVER: &str = "--global-batch 4 --micro-batch 1 --steps 1000000 --log-every 1";
const FOUR: &str = "--dp 2 --pp 1 --cp 1 --tp 2";

fn program(step: u8, run: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.env("PARITY_STEP", step.to_string()).args(flags(false, run));
    without_launcher(&mut command);
    command
}

/// A run under way.
struct Run {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The last line that it has printed.
    last: String,
}

impl Run {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out, last: String::new() }
    }

    /// Waits until it has trained for some steps.
    fn trains(mut self) -> Self {
        while !self.last.starts_with("step") || !self.last.contains(" 3/") {
            assert!(self.next_line(), "it ended");
        }
        self
    }

    fn next_line(&mut self) -> bool {
        let mut line = String::new();
        let more = self.out.read_line(&mut line).unwrap() > 0;
        if more {
            self.last = line;
        }
        more
    }

    fn signal(&self, name: &str) {
        signal(name, self.child.id());
    }

    /// The exit status, the last step that was shown, and what stands on standard error.
    fn end(mut self, limit: Duration) -> (ExitStatus, usize, String) {
        let (since, pid) = (Instant::now(), self.child.id());
        let (ended, end) = mpsc::channel::<()>();
        thread::spawn(move || {
            if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                signal("KILL", pid);
            }
        });
        let mut step = step_of(&self.last);
        while self.next_line() {
            step = step_of(&self.last).or(step);
        }
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        let status = self.child.wait().unwrap();
        drop(ended);
        assert!(since.elapsed() < limit, "it took {:?}", since.elapsed());
        (status, step.unwrap_or(0), text)
    }

    /// Its end in one sentence, and code 1.
    fn failure(self, limit: Duration) -> String {
        let (status, _, text) = self.end(limit);
        assert_eq!((status.code(), text.lines().count()), (Some(1), 1), "{status}: {text}");
        text.strip_prefix("error: ").unwrap().trim_end().to_owned()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// The number in `step  12/100  loss …`.
fn step_of(line: &str) -> Option<usize> {
    line.strip_prefix("step")?.split('/').next()?.trim().parse().ok()
}

/// What is in a directory, without hidden files.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

fn saving(dir: &Path, launcher: &str) -> String {
    format!("{FOREVER} {FOUR} --launcher {launcher} --save {}", dir.display())
}

fn assert_saved(dir: &Path, step: usize) {
    assert_eq!(names(dir), [format!("step-{step:06}")]);
}

fn assert_stopped(
    (status, step, text): (ExitStatus, usize, String),
    code: i32,
    dir: &Path,
    signal: &str,
) {
    assert_eq!(status.code(), Some(code), "{text}");
    let last =
        format!("stopped by {signal}, and saved: --resume {} goes on from there", dir.display());
    assert_eq!(text.lines().last(), Some(&*last), "{text}");
    assert!(text.lines().count() <= 2, "{text}");
    assert_saved(dir, step);
}

#[test]
fn a_run_that_is_told_to_end_saves_first_and_goes_on_as_if_nothing_had_been() {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::start(program(6, &saving(dir.path(), "threads"))).trains();
    run.signal("TERM");
    run.signal("TERM"); // a launcher passes on what its ranks were sent as well
    let (status, step, text) = run.end(GUARD);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_stopped((status, step, text), 143, dir.path(), "SIGTERM");

    let flags = format!("{} --resume {}", saving(dir.path(), "threads"), dir.path().display());
    let after = |flags: &str| {
        let mut run = Run::start(program(6, flags));
        while step_of(&run.last) != Some(step + 1) {
            assert!(run.next_line(), "it ended");
        }
        run.last.split("tokens").next().unwrap().rsplit_once("  ").unwrap().0.to_owned()
    };
    assert_eq!(after(&flags), after(&format!("{FOREVER} {FOUR}")), "step {}", step + 1);
}

#[test]
fn each_signal_of_a_batch_system_is_heeded() {
    for (signal, code) in [("USR1", 138), ("USR2", 140), ("XCPU", 152), ("INT", 130)] {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::start(program(6, &saving(dir.path(), "threads"))).trains();
        run.signal(signal);
        assert_stopped(run.end(GUARD), code, dir.path(), &format!("SIG{signal}"));
    }
}

#[test]
fn processes_are_told_by_their_launcher_or_one_of_them_alone() {
    for to_child in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let run = Run::start(program(6, &saving(dir.path(), "processes"))).trains();
        match to_child {
            true => signal("USR1", children(run.child.id())[3]),
            false => run.signal("USR1"),
        }
        assert_stopped(run.end(GUARD), 138, dir.path(), "SIGUSR1");
    }
}

/// The ranks of a world that some launcher starts one by one.
fn by_env(run: &str) -> Vec<Run> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rank = |rank: usize| {
        let mut command = program(6, run);
        command.env("RANK", rank.to_string()).env("WORLD_SIZE", "4");
        command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
        Run::start(command)
    };
    let mut ranks: Vec<_> = (0..4).map(rank).collect();
    let first = ranks.remove(0).trains();
    ranks.insert(0, first);
    ranks
}

#[test]
fn one_rank_that_is_told_is_enough_under_another_launcher() {
    for told in [0, 2] {
        let dir = tempfile::tempdir().unwrap();
        let mut ranks = by_env(&saving(dir.path(), "env"));
        ranks[told].signal("TERM");
        assert_stopped(ranks.remove(0).end(GUARD), 143, dir.path(), "SIGTERM");
        for rank in ranks {
            let (status, _, text) = rank.end(GUARD);
            assert_eq!((status.code(), &*text), (Some(143), ""), "one rank speaks for all");
        }
    }
}

#[test]
fn the_same_signal_again_ends_a_run_that_is_stuck() {
    let dir = tempfile::tempdir().unwrap();
    let mut ranks = by_env(&saving(dir.path(), "env"));
    ranks[1].signal("STOP"); // so that the others wait
    ranks[0].signal("TERM");
    thread::sleep(Duration::from_millis(1500));
    ranks[0].signal("TERM");
    let (status, ..) = ranks.remove(0).end(PROMISE);
    assert_eq!(status.signal(), Some(15));
}

#[test]
fn a_run_that_does_not_save_ends_in_one_sentence() {
    for (step, run, name) in [
        (1, FOREVER.to_owned(), "TERM"),
        (2, format!("{FOREVER} --dp 1"), "TERM"),
        (2, format!("{FOREVER} --dp 2"), "USR1"),
        (6, format!("{FOREVER} {FOUR}"), "TERM"),
        (6, format!("{FOREVER} {FOUR} --launcher processes"), "USR2"),
    ] {
        let run = Run::start(program(step, &run)).trains();
        run.signal(name);
        assert_eq!(run.failure(PROMISE), format!("the run was ended by SIG{name}"));
    }
    let run = Run::start(program(6, &format!("{FOREVER} {FOUR} --launcher processes"))).trains();
    signal("TERM", children(run.child.id())[3]);
    assert_eq!(run.failure(PROMISE), "rank dp1 pp0 cp0 tp1 was ended by SIGTERM");
    for rank in by_env(&format!("{FOREVER} {FOUR}")).into_iter().inspect(|rank| rank.signal("TERM"))
    {
        let sentence = rank.failure(PROMISE);
        assert!(sentence.ends_with("was ended by SIGTERM"), "{sentence}");
    }
}

#[test]
fn control_c_is_left_alone_where_nothing_is_saved() {
    let mut command = program(6, &format!("{FOREVER} {FOUR}"));
    // SAFETY: `signal` may be called between fork and exec. A test that runs in the background may have
    // been told to ignore the signal.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        })
    };
    let run = Run::start(command).trains();
    run.signal("INT");
    assert_eq!(run.end(PROMISE).0.signal(), Some(2));
}

#[cfg(target_os = "linux")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_os = "linux"))]
type Resource = libc::c_int;

/// `command` under a limit, as `ulimit` sets it.
fn limited(mut command: Command, resource: Resource, limit: u64) -> Command {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: `setrlimit` may be called between fork and exec, and reads a structure that is there.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    command
}

#[test]
fn a_file_that_may_not_grow_is_named_and_the_last_checkpoint_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (ck, at) = (dir.path().join("ck"), |name: &str| dir.path().join(name));
    let run = |more: String| program(6, &format!("--global-batch 4 --micro-batch 1 {FOUR} {more}"));
    let (status, ..) = Run::start(run(format!("--save {}", ck.display()))).end(GUARD);
    assert!(status.success());

    for launcher in ["threads", "processes"] {
        let more = format!("--launcher {launcher} --steps 4 --save {0} --resume {0}", ck.display());
        let sentence = Run::start(limited(run(more), FSIZE, 4096)).failure(GUARD);
        assert!(sentence.contains(&format!("cannot write {}", ck.display())), "{sentence}");
        assert!(sentence.contains("File too large"), "{sentence}");
        assert_eq!(names(&ck), ["step-000003"], "{launcher}");
        assert!(names(&ck.join(".step-000004.partial")).is_empty(), "half a file is left");
    }
    let (status, ..) =
        Run::start(run(format!("--steps 4 --save {0} --resume {0}", ck.display()))).end(GUARD);
    assert!(status.success());
    assert_eq!(names(&ck), ["step-000003", "step-000004"]);
    assert!(!ck.join(".step-000004.partial").exists());

    for (flag, limit, left) in
        [("metrics", 512, true), ("trace", 4096, false), ("export-hf", 4096, true)]
    {
        let path = at(flag);
        let more = format!("--{flag} {}", path.display());
        let sentence = Run::start(limited(run(more), FSIZE, limit)).failure(GUARD);
        let named = sentence.contains(path.to_str().unwrap());
        assert!(named && sentence.contains("File too large"), "{sentence}");
        assert_eq!(path.exists(), left, "{flag}");
    }
    let left = std::fs::read_dir(at("export-hf")).unwrap();
    let mut left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.all(|name| !name.contains("safetensors")), "half a file is left");
    let whole = names(dir.path()).into_iter().filter(|name| !name.contains("metrics"));
    assert!(whole.eq(["ck", "export-hf"]), "{:?}", names(dir.path()));
}

/// A user without any process. (The limit does not hold for root, and counts all of a user's.)
const NOBODY: u32 = 54_321;

/// `command` as that user, or `None`, with a reason on standard error, where this cannot be set up.
fn as_nobody(mut command: Command) -> Option<Command> {
    command.current_dir("/").uid(NOBODY).gid(NOBODY);
    let mut help = Command::new(env!("CARGO_BIN_EXE_train"));
    help.arg("--help").current_dir("/").uid(NOBODY).gid(NOBODY).stdout(Stdio::null());
    if help.status().is_ok_and(|status| status.success()) {
        return Some(command);
    }
    eprintln!("skipped: it takes root, and a checkout that other users can read");
    None
}

/// A run under a limit that it may or may not keep ends well, or in one sentence.
fn assert_ends_well(command: Command, what: &str) -> bool {
    let (status, _, text) = Run::start(command).end(GUARD);
    if status.success() {
        return true;
    }
    assert!(matches!(status.code(), Some(1 | 2)), "{what}: {status}: {text}");
    // libtorch says so itself if it cannot read about the machine's cores.
    let ours: Vec<_> = text.lines().filter(|line| !line.contains("cpuinfo")).collect();
    assert!(ours.len() == 1 && ours[0].starts_with("error: "), "{what}: {text}");
    assert!(!text.contains("panicked"), "{what}: {text}");
    false
}

#[test]
fn few_threads_are_enough_or_it_is_said_which_limit_is_in_the_way() {
    // Where that user can read it, and with matrices so large that other threads would
    // help to draw them.
    let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wide.toml");
    let wide = "[model]\nhidden_size = 512\nnum_hidden_layers = 1\n[train]\nsteps = 2\n[run]\nsample = 0\n";
    std::fs::write(&config, wide).unwrap();
    let few = |run: &str, n: usize| {
        let run = format!("--config {} {run} --global-batch 4 --micro-batch 1", config.display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        without_launcher(&mut command);
        command.args(run.split_whitespace());
        as_nobody(limited(command, libc::RLIMIT_NPROC, n as u64))
    };
    // One for main, one that waits for signals, and the rank: weights are drawn on these, too.
    for (run, enough, least) in [
        ("--dp 1 --pp 1 --cp 1 --tp 1", 3, 1),
        ("--dp 2 --pp 1 --cp 1 --tp 1", 8, 2),
        ("--dp 2 --pp 1 --cp 1 --tp 1 --launcher processes", 60, 2),
    ] {
        for n in (least..enough).step_by(1 + enough / 12).chain([enough]) {
            let Some(command) = few(run, n) else { return };
            let ended_well = assert_ends_well(command, &format!("{run} with ulimit -u {n}"));
            assert!(ended_well || n < enough, "{run} with ulimit -u {n}");
        }
    }
}

#[test]
fn few_open_files_are_enough_or_it_is_said() {
    let run = "--global-batch 4 --micro-batch 1 --dp 2 --pp 1 --cp 1 --tp 1";
    for n in [6, 8, 9, 10, 11, 12, 14, 16, 20, 24, 64] {
        let command = program(6, &format!("{run} --launcher processes"));
        let ended_well = assert_ends_well(limited(command, libc::RLIMIT_NOFILE, n), &n.to_string());
        assert!(ended_well || n < 64);
    }
}
