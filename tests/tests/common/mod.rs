//! What the tests of all steps share: the model under test, and the run of step01 that
//! they compare with.
#![allow(dead_code)] // each test file uses its part

use comm::Layout;
use parity::{Bound, Record, TELL, TRAINING, Tensors, compare, record};
use report::Pass;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A model small enough for hundreds of runs, with every mechanism in it: grouped-query attention,
/// heads that do not make up the hidden size, several layers, an intermediate size that is no power
/// of two, rotary frequencies that Llama 3.1's scaling changes a little and altogether. Clipping is
/// on, and low enough to act.
const MODEL: &str = r#"
[model]
vocab_size = VOCAB
hidden_size = 32
intermediate_size = 48
num_hidden_layers = LAYERS
num_attention_heads = 16
num_key_value_heads = 8
head_dim = 4
rms_norm_eps = 1e-5
rope_theta = 10000.0
max_position_embeddings = 128
rope_scaling = { factor = 8.0, low_freq_factor = 1.0, high_freq_factor = 4.0, original_max_position_embeddings = 16 }
tie_word_embeddings = TIED

[data]
seq-len = 16

[train]
steps = 3
lr = 1e-2
min-lr = 1e-3
warmup = 1
weight-decay = 0.1
clip = 0.5
seed = 7

[run]
dtype = "f64"
sample = 0
"#;

/// What tests vary in the model.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub tied: bool,
    pub layers: usize,
    pub vocab: usize,
}

impl Default for Model {
    fn default() -> Self {
        Self { tied: false, layers: 2, vocab: 256 }
    }
}

impl Model {
    pub fn tied(tied: bool) -> Self {
        Self { tied, ..Self::default() }
    }

    /// The config file of the model.
    pub fn file(self) -> PathBuf {
        let Self { tied, layers, vocab } = self;
        let name = format!("tied-{tied}-layers-{layers}-vocab-{vocab}.toml");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Tests run side by side: each writes the same text under its own name, then
        // moves it into place.
        let own = path.with_extension(format!("{:?}", std::thread::current().id()));
        let text = MODEL.replace("TIED", &tied.to_string());
        let text = text.replace("LAYERS", &layers.to_string());
        std::fs::write(&own, text.replace("VOCAB", &vocab.to_string())).unwrap();
        std::fs::rename(&own, &path).unwrap();
        path
    }

    /// A text in which every word of the vocabulary occurs: all of them in random order, 40
    /// times. (The tales are ASCII: no id above 127 ever occurs in them, neither as an input
    /// nor as a target.)
    fn words(self) -> PathBuf {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("words-{}.bin", self.vocab));
        let own = path.with_extension(format!("{:?}.bin", std::thread::current().id()));
        let mut random = data::Random::new(7, 0);
        let ids = (0..40).flat_map(|_| random.permutation(self.vocab));
        let bytes: Vec<u8> = ids.flat_map(|id| (id as u16).to_le_bytes()).collect();
        std::fs::write(&own, bytes).unwrap();
        std::fs::rename(&own, &path).unwrap();
        path
    }

    /// The flags of a run on the model: on the tales, or, where the vocabulary is not one of bytes,
    /// on all of its words.
    pub fn flags(self, run: &str) -> Vec<String> {
        let mut flags = vec!["--config".into(), self.file().display().to_string()];
        if self.vocab != Self::default().vocab {
            flags.extend(["--data".into(), self.words().display().to_string()]);
        }
        flags.extend(run.split_whitespace().map(str::to_owned));
        flags
    }

    /// What step01 computes under these flags.
    pub fn reference(self, run: &str) -> Tensors {
        record(1, &self.flags(run)).unwrap().remove(0).tensors()
    }
}

/// Takes from the environment what a launcher of these tests may have left there.
pub fn without_launcher(command: &mut Command) {
    command.env_remove("RUST_BACKTRACE");
    for name in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"] {
        command.env_remove(name);
    }
}

pub fn flags(tied: bool, run: &str) -> Vec<String> {
    Model::tied(tied).flags(run)
}

pub fn reference(tied: bool, run: &str) -> Tensors {
    Model::tied(tied).reference(run)
}

/// Every layout of `world` ranks.
pub fn layouts(world: usize) -> Vec<Layout> {
    let divides = |n: &usize| world.is_multiple_of(*n);
    let mut all = vec![];
    for dp in (1..=world).filter(divides) {
        for pp in (1..=world / dp).filter(divides) {
            for cp in (1..=world / dp / pp).filter(divides) {
                let tp = world / dp / pp / cp;
                all.extend((dp * pp * cp * tp == world).then_some(Layout { dp, pp, cp, tp }));
            }
        }
    }
    all
}

/// The flags of a layout.
pub fn layout_flags(layout: Layout) -> String {
    let Layout { dp, pp, cp, tp } = layout;
    format!("--dp {dp} --pp {pp} --cp {cp} --tp {tp}")
}

/// Bytes that group rank `rank` of `n` sends to sum `len` numbers of `width` bytes around a ring:
/// all chunks but its own, then all but its right neighbour's.
pub fn ring_bytes(len: usize, width: usize, rank: usize, n: usize) -> u64 {
    let chunk = |c: usize| len * (c + 1) / n - len * c / n;
    let sent = if n == 1 { 0 } else { 2 * len - chunk(rank) - chunk((rank + 1) % n) };
    (sent * width) as u64
}

/// Without the gradient norm, whose squares are added in another order when ranks share them. (Only
/// where clipping is off has that no consequence.)
pub fn without_norm(mut tensors: Tensors) -> Tensors {
    tensors.retain(|name, _| !name.ends_with("gradient norm"));
    tensors
}

/// The `record` binary under these flags, ready to be spawned.
fn binary(step: u8, dir: &Path, flags: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_record"));
    command.arg(step.to_string()).arg(dir).args(flags);
    command
}

/// Ranks that are threads, processes, or processes started by somebody else compute the same bits.
pub fn assert_launchers_agree(step: u8, world: usize, flags: &[String]) {
    let threads = record(step, flags).unwrap();
    assert_eq!(threads.len(), world);

    let dir = tempfile::tempdir().unwrap();
    let processes = [flags, &["--launcher".into(), "processes".into()]].concat();
    assert!(binary(step, dir.path(), &processes).status().unwrap().success());
    assert_same(&threads, dir.path(), "processes");

    let dir = tempfile::tempdir().unwrap();
    // A port that is free now, below those that the system hands out by itself.
    let mut ports = (20_000 + (std::process::id() % 12_000) as u16..).step_by(7);
    let free = |&port: &u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let port = ports.find(free).unwrap();
    let children: Vec<_> = (0..world)
        .map(|rank| {
            binary(step, dir.path(), flags)
                .envs([("RANK", rank.to_string()), ("WORLD_SIZE", world.to_string())])
                .envs([("MASTER_ADDR", "127.0.0.1".into()), ("MASTER_PORT", port.to_string())])
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_same(&threads, dir.path(), "env");
}

fn assert_same(threads: &[Record], dir: &Path, launcher: &str) {
    for record in threads {
        let other = Record::read(dir, record.rank).unwrap();
        let what = format!("{launcher}, rank {}", record.rank);
        compare(&what, &record.tensors(), &other, Bound::Bits);
    }
}

/// One span of a trace.
#[derive(Debug)]
pub struct Span {
    pub rank: u64,
    pub track: String,
    pub name: String,
    /// Microseconds.
    pub start: f64,
    pub end: f64,
    /// Bytes that the rank sent meanwhile, where it is known.
    pub bytes: Option<u64>,
}

/// The spans of a trace file, with the names of their tracks.
pub fn spans(path: &Path) -> Vec<Span> {
    let text = std::fs::read_to_string(path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    let of = |event: &serde_json::Value| (event["pid"].as_u64().unwrap(), event["tid"].as_u64());
    let track = |event: &serde_json::Value| {
        let named = |e: &&serde_json::Value| e["name"] == "thread_name" && of(e) == of(event);
        events.iter().find(named).unwrap()["args"]["name"].as_str().unwrap().to_owned()
    };
    events
        .iter()
        .filter(|event| event["ph"] == "X")
        .map(|event| {
            let (start, length) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
            let name = event["name"].as_str().unwrap().to_owned();
            let (rank, _) = of(event);
            let bytes = event["args"]["bytes"].as_u64();
            Span { rank, track: track(event), name, start, end: start + length, bytes }
        })
        .collect()
}

/// The passes that each rank made, in the order in which it began them, by a trace
/// file of one step.
pub fn passes(path: &Path) -> Vec<Vec<Pass>> {
    let mut spans = spans(path);
    spans.sort_by(|a, b| a.start.total_cmp(&b.start));
    let mut passes = vec![];
    for span in spans.iter().filter(|span| span.track == "compute") {
        let pass = match span.name.split_once(' ') {
            Some(("forward", i)) => Pass::Forward(i.parse().unwrap()),
            Some(("backward", i)) => Pass::Backward(i.parse().unwrap()),
            _ => continue,
        };
        passes.resize_with(passes.len().max(span.rank as usize + 1), Vec::new);
        passes[span.rank as usize].push(pass);
    }
    passes
}

/// The most micro-batches that have come forward and have not gone back.
pub fn most_in_flight(passes: &[Pass]) -> usize {
    let kept = |n: usize| {
        let forward = passes[..n].iter().filter(|pass| matches!(pass, Pass::Forward(_))).count();
        2 * forward - n // the others are backward
    };
    (0..=passes.len()).map(kept).max().unwrap()
}

/// Has a program find the stand-in for a GPU: in its folder the dynamic linker looks first.
pub fn on_stand_in(command: &mut Command) {
    let others =
        std::env::var("LD_LIBRARY_PATH").map_or(String::new(), |paths| format!(":{paths}"));
    command.env("LD_LIBRARY_PATH", format!("{}{others}", env!("STAND_IN")));
}

/// The processes that `pid` has started, in the order in which it did.
pub fn children(pid: u32) -> Vec<u32> {
    let children = match cfg!(target_os = "linux") {
        true => std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap(),
        false => {
            let pgrep = Command::new("pgrep").args(["-P", &pid.to_string()]).output().unwrap();
            String::from_utf8(pgrep.stdout).unwrap()
        }
    };
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Whether there is a process `pid`, be it one that has ended and that nobody has waited for.
pub fn alive(pid: u32) -> bool {
    // SAFETY: signal 0 is never sent; the system only says whether it could be.
    unsafe { libc::kill(pid as libc::pid_t, 0) == 0 }
}

/// Starts a run of `ranks` processes that has no end, kills one of them, and expects the whole of
/// it to have ended soon, with a sentence that names the rank.
pub fn assert_killed_rank_is_named(
    mut run: Command,
    ranks: usize,
    victim: usize,
    name: &str,
    soon: Duration,
) {
    run.stdout(Stdio::piped()).stderr(Stdio::piped()).env(TELL, "1");
    let mut parent = run.spawn().unwrap();
    // GPUs take long to start: only after a step the ranks are in the middle of training.
    let mut told = BufReader::new(parent.stdout.take().unwrap()).lines();
    assert!(told.any(|line| line.unwrap() == TRAINING), "no step was done");
    let processes = children(parent.id());
    assert_eq!(processes.len(), ranks);
    let killed = Instant::now();
    assert!(
        Command::new("kill")
            .args(["-9", &processes[victim].to_string()])
            .status()
            .unwrap()
            .success()
    );
    let output = parent.wait_with_output().unwrap();
    assert!(killed.elapsed() < soon, "took {:?}", killed.elapsed());
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(name) && error.contains("killed by signal 9"), "{error}");
    assert!(!processes.iter().any(|&pid| alive(pid)), "a rank is still there");
}
