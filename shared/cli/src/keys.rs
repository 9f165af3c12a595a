//! Every setting: the one list from which flags, the keys of a configuration file, `--help` and the
//! refusals are made.

use crate::config::{CpLayout, DeviceName, DpSync, Dtype, Gpu, Schedule, TpSync};
use checkpoint::RopeScaling;
use std::num::IntErrorKind::PosOverflow;
use toml::Value;

/// What a setting's value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// A whole number from 0 up.
    Count,
    Number,
    Text,
    Switch,
    Choice(&'static [&'static str]),
    /// The fields of [`RopeScaling`].
    Table,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub table: &'static str,
    pub name: &'static str,
    pub kind: Kind,
    /// The placeholder of the value in `--help`; empty for a key that only a file can set.
    pub value: &'static str,
    /// The first step that knows it.
    pub since: u8,
    pub help: &'static str,
}

const fn model(name: &'static str, kind: Kind) -> Key {
    Key { table: "model", name, kind, value: "", since: 1, help: "" }
}

const fn key(
    table: &'static str,
    name: &'static str,
    kind: Kind,
    value: &'static str,
    since: u8,
    help: &'static str,
) -> Key {
    Key { table, name, kind, value, since, help }
}

use Kind::{Choice, Count, Number, Switch, Table, Text};

const LAUNCHERS: &[&str] = &["threads", "processes", "env"];

#[rustfmt::skip] // a table
pub(crate) const KEYS: &[Key] = &[
    model("vocab_size", Count),
    model("hidden_size", Count),
    model("intermediate_size", Count),
    model("num_hidden_layers", Count),
    model("num_attention_heads", Count),
    model("num_key_value_heads", Count),
    model("head_dim", Count),
    model("rms_norm_eps", Number),
    model("rope_theta", Number),
    model("rope_scaling", Table),
    model("tie_word_embeddings", Switch),
    model("max_position_embeddings", Count),
    key("model", "hf-model", Text, "DIR", 1, "Architecture and weights from a Hugging Face directory"),
    key("data", "data", Text, "FILE", 1, "Train on a file: text (UTF-8), or little-endian tokens: .bin (u16), .u32; default: the built-in tales"),
    key("data", "tokenizer", Text, "FILE", 1, "A Hugging Face tokenizer.json; default: bytes"),
    key("data", "data-cache", Text, "DIR", 1, "Where the tokens of a long text are kept, for the other processes and later runs; default: beside it"),
    key("data", "seq-len", Count, "S", 1, "Tokens in a sample"),
    key("data", "shuffle", Switch, "", 1, "Another order of the samples in every epoch"),
    key("train", "steps", Count, "N", 1, "Updates of the weights"),
    key("train", "micro-batch", Count, "B", 1, "Sequences that go through the model at once"),
    key("train", "global-batch", Count, "G", 1, "Sequences in one update"),
    key("train", "seed", Count, "N", 1, "Seed of the initial weights, of shuffling and of the sample"),
    key("train", "lr", Number, "X", 1, "Highest learning rate"),
    key("train", "min-lr", Number, "X", 1, "Learning rate at the end; a tenth of lr where only lr is given"),
    key("train", "warmup", Count, "N", 1, "Steps of rising learning rate; at most steps where only steps is given, or by a flag over a file"),
    key("train", "weight-decay", Number, "X", 1, "AdamW's weight decay, on matrices only"),
    key("train", "clip", Number, "X", 1, "Highest norm of the whole gradient; 0 turns clipping off"),
    key("parallel", "dp", Count, "N", 2, "Replicas of the model, each with its share of the batch"),
    key("parallel", "dp-sync", Choice(DpSync::NAMES), "HOW", 2, "How gradients are summed over replicas: naive after the backward pass, bucketed during it"),
    key("parallel", "bucket-mb", Number, "X", 2, "MiB of gradients in one bucket"),
    key("parallel", "tp", Count, "N", 3, "Ranks that share every matrix"),
    key("parallel", "tp-sync", Choice(TpSync::NAMES), "HOW", 3, "When gradients of activations are summed over tp ranks: blocking, or overlapped with the weights' gradients"),
    key("parallel", "pp", Count, "N", 4, "Stages of the pipeline"),
    key("parallel", "schedule", Choice(Schedule::NAMES), "HOW", 4, "Order of the passes in the pipeline: 1f1b or afab"),
    key("parallel", "cp", Count, "N", 5, "Ranks that share every sequence"),
    key("parallel", "cp-layout", Choice(CpLayout::NAMES), "HOW", 5, "Which tokens of a sequence a rank holds: zigzag or contiguous"),
    key("run", "device", Choice(DeviceName::NAMES), "D", 1, "cpu or cuda"),
    key("run", "dtype", Choice(Dtype::NAMES), "T", 1, "f32, f64 or bf16 (computes in bf16 on weights in f32)"),
    key("run", "launcher", Choice(LAUNCHERS), "HOW", 1, "What a rank is: threads, processes, or env where torchrun or the like has started it; default: env where RANK and WORLD_SIZE are set, else threads on cpu and processes on cuda"),
    key("run", "threads-per-rank", Count, "N", 1, "Threads inside an operation [1]"),
    key("run", "timeout", Number, "SECONDS", 1, "Longest wait for another rank"),
    key("run", "metrics", Text, "FILE", 1, "Write one JSON object per step"),
    key("run", "trace", Text, "FILE", 1, "Write a trace of every rank, for Perfetto or Chrome, and beside it a chart of the last step (.svg)"),
    key("run", "sample", Count, "N", 1, "Tokens of text to write after training"),
    key("run", "prompt", Text, "TEXT", 1, "What the sample begins with"),
    key("data", "eval-data", Text, "FILE", 6, "Held-out text for the validation loss; default: tales of their own, beside the built-in ones"),
    key("train", "eval-every", Count, "N", 6, "Compute the validation loss every N steps, and at the end"),
    key("train", "eval-batches", Count, "N", 6, "Global batches of held-out text that it is computed on, or all text if it has fewer [4]"),
    key("run", "save", Text, "DIR", 6, "Write a checkpoint at the end"),
    key("run", "save-every", Count, "N", 6, "And one every N steps"),
    key("run", "save-keep", Count, "N", 6, "Keep the N newest, and delete older ones; default: all"),
    key("run", "resume", Text, "DIR", 6, "Go on from a checkpoint, of any layout"),
    key("run", "export-hf", Text, "DIR", 6, "Write the trained weights in Hugging Face's format"),
    key("run", "dry-run", Switch, "", 6, "Print layout, memory, communication and bubble, and stop"),
    key("run", "gpu", Choice(Gpu::NAMES), "NAME", 6, "What a dry run predicts for: h100, h200 or a100"),
];

pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

impl Key {
    /// Whether there is a flag for it, or a configuration file alone can set it.
    pub fn is_flag(&self) -> bool {
        !self.value.is_empty() || (self.kind == Switch && self.table != "model")
    }

    /// The value as its kind keeps it, or what it must be: "must be a whole number".
    pub fn check(&self, value: Value) -> Result<Value, String> {
        match (self.kind, value) {
            (Count, Value::Integer(n)) if n >= 0 => Ok(Value::Integer(n)),
            (Count, Value::Integer(_)) => Err("must not be negative".into()),
            // A whole number, but beyond what is kept.
            (Count, Value::String(s))
                if s.parse::<i64>().is_err_and(|e| *e.kind() == PosOverflow) =>
            {
                Err(format!("must be at most {}", i64::MAX))
            }
            (Count, _) => Err("must be a whole number".into()),
            (Number, Value::Integer(n)) => Ok(Value::Float(n as f64)),
            (Number, value @ Value::Float(_)) => Ok(value),
            (Number, _) => Err("must be a number".into()),
            (Switch, value @ Value::Boolean(_)) => Ok(value),
            (Switch, _) => Err("must be true or false".into()),
            (Text, Value::String(s)) if s.is_empty() && self.name != "prompt" => {
                Err("must not be empty".into())
            }
            (Text, value @ Value::String(_)) => Ok(value),
            (Text, _) => Err("must be text in quotes".into()),
            (Choice(names), Value::String(s)) if names.contains(&s.as_str()) => {
                Ok(Value::String(s))
            }
            (Choice(names), _) => Err(format!("must be {}", either(names))),
            (Table, value @ Value::Table(_)) => match value.clone().try_into::<RopeScaling>() {
                Ok(_) => Ok(value),
                Err(error) => Err(format!("that is not valid: {}", error.message())),
            },
            (Table, _) => Err("must be a table".into()),
        }
    }

    /// The value of a flag's text; if it has none, the text itself, for `check` to refuse.
    pub fn read_flag(&self, text: &str) -> Value {
        let text_itself = || Value::String(text.into());
        match self.kind {
            Count => text.parse().map_or_else(|_| text_itself(), Value::Integer),
            Number => text.parse().map_or_else(|_| text_itself(), Value::Float),
            Switch => text.parse().map_or_else(|_| text_itself(), Value::Boolean),
            _ => text_itself(),
        }
    }
}

/// "a", "a or b", "a, b or c".
pub(crate) fn either(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).into(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
