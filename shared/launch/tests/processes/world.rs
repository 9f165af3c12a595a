//! Starting the demo program, hurting it, and looking at how it ends.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The product's promise for the time between a rank's death and the end of all the others.
pub const PROMISE: Duration = Duration::from_secs(5);
/// Only so that a test that hangs ends too.
pub const GUARD: Duration = Duration::from_secs(120);

/// A directory in which ranks leave their process ids, gone when dropped.
pub struct Notes(pub PathBuf);

impl Notes {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ferrotron-launch-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// The process id of a rank, once all are talking to each other.
    pub fn pid(&self, rank: usize) -> u32 {
        let end = Instant::now() + GUARD;
        loop {
            if let Ok(text) = fs::read_to_string(self.0.join(rank.to_string())) {
                return text.parse().unwrap();
            }
            assert!(Instant::now() < end, "rank {rank} never talked");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn demo(
    launcher: &str,
    dimension: &str,
    ranks: usize,
    timeout: f64,
    act: &str,
    notes: &Notes,
) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["demo", launcher, dimension, &ranks.to_string(), &timeout.to_string(), act]);
    command.arg(&notes.0).stdin(Stdio::null());
    // With it a panic says more than the one line that is looked at here.
    command.env_remove("RUST_BACKTRACE");
    for name in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"] {
        command.env_remove(name);
    }
    command
}

/// A running process whose output is being read; killed when dropped.
pub struct Running {
    pub child: Child,
    out: Option<[JoinHandle<String>; 2]>,
}

pub struct End {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let read = |mut from: Box<dyn Read + Send>| {
            thread::spawn(move || {
                let mut text = String::new();
                from.read_to_string(&mut text).unwrap();
                text
            })
        };
        let stdout = read(Box::new(child.stdout.take().unwrap()));
        let stderr = read(Box::new(child.stderr.take().unwrap()));
        Self { child, out: Some([stdout, stderr]) }
    }

    /// Waits for the end, at most `limit`.
    pub fn end(mut self, limit: Duration) -> End {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "still running after {limit:?}");
            thread::sleep(Duration::from_millis(5));
        };
        let [stdout, stderr] = self.out.take().unwrap().map(|thread| thread.join().unwrap());
        End { status, stdout, stderr }
    }

    /// Waits for an end with code 1 and one line on standard error, and returns that line.
    pub fn failure(self, limit: Duration) -> String {
        let End { status, stderr, .. } = self.end(limit);
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        stderr.trim_end().strip_prefix("error: ").expect("an error").to_string()
    }

    pub fn success(self) -> String {
        let End { status, stdout, stderr } = self.end(GUARD);
        assert!(status.success() && stderr.is_empty(), "{status}: {stderr}");
        stdout
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `whom` may be a process group: its number with a minus.
pub fn signal(name: &str, whom: impl ToString) {
    let status = Command::new("kill").args(["-s", name, "--", &whom.to_string()]).status();
    assert!(status.unwrap().success());
}

/// Whether a process runs (one that has ended but was not waited for does not).
pub fn alive(pid: u32) -> bool {
    if cfg!(target_os = "linux") {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        return state.is_some_and(|state| state != 'Z');
    }
    let ps = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    !ps.stdout.is_empty() && ps.stdout[0] != b'Z'
}

pub fn free_port() -> u16 {
    // Below the ports that the system hands out by itself, or a connection might take it meanwhile.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + (std::process::id() % 500) as u16 * 20;
    (0..12_000)
        .map(|_| start + NEXT.fetch_add(1, Ordering::Relaxed))
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("a free port")
}

/// The first of two in a row. Neither is one that the system hands out, or it might give
/// away the second.
pub fn two_free_ports() -> u16 {
    loop {
        let port = free_port();
        if free_port() == port + 1 {
            return port;
        }
    }
}
