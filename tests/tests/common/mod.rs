//! What the tests of all steps share: the model under test, and the run of step01 that they compare with.
#![allow(dead_code)] // each test file uses its part

use parity::{Tensors, record};
use std::path::{Path, PathBuf};

/// A model small enough for hundreds of runs, with every mechanism in it: grouped-query attention, several
/// layers, an intermediate size that is no power of two. Clipping is on, and low enough to act.
const MODEL: &str = r#"
[model]
vocab_size = 256
hidden_size = 32
intermediate_size = 48
num_hidden_layers = 2
num_attention_heads = 8
num_key_value_heads = 4
rms_norm_eps = 1e-5
rope_theta = 10000.0
max_position_embeddings = 128
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

/// The config file of the model under test.
pub fn model_file(tied: bool) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tied-{tied}.toml"));
    // Tests run side by side: each writes the same text under its own name, then moves it into place.
    let own = path.with_extension(format!("{:?}", std::thread::current().id()));
    std::fs::write(&own, MODEL.replace("TIED", &tied.to_string())).unwrap();
    std::fs::rename(&own, &path).unwrap();
    path
}

/// The flags of a run on the model under test.
pub fn flags(tied: bool, run: &str) -> Vec<String> {
    let mut flags = vec!["--config".into(), model_file(tied).display().to_string()];
    flags.extend(run.split_whitespace().map(str::to_owned));
    flags
}

/// What step01 computes under these flags.
pub fn reference(tied: bool, run: &str) -> Tensors {
    record(1, &flags(tied, run)).unwrap().remove(0).tensors()
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
            Span { rank, track: track(event), name, start, end: start + length }
        })
        .collect()
}
