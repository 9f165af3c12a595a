//! From settings by name to a [`Config`].

use crate::config::{
    Config, CpLayout, DataConfig, DeviceName, DpSync, Dtype, Gpu, ParallelConfig, RunConfig,
    Schedule, TpSync, TrainConfig,
};
use crate::layers::Values;
use anyhow::{Context, Result, anyhow, bail, ensure};
use checkpoint::LlamaConfig;
use comm::Layout;
use launch::Launcher;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Value;

pub(crate) fn assemble(values: &Values, env: impl Fn(&str) -> Option<String>) -> Result<Config> {
    let v = Reader(values);
    let hf_model = v.path("hf-model");
    let (model, notes) = match &hf_model {
        Some(dir) => hugging_face(dir).with_context(|| format!("hf-model {}", dir.display()))?,
        None => (architecture(values)?, vec![]),
    };
    let mut config = Config {
        model,
        hf_model,
        data: data(&v)?,
        train: train(&v)?,
        parallel: parallel(&v)?,
        run: run(&v, env)?,
        dataset: None,
        eval_dataset: None,
        notes,
        signals: launch::Signals::default(),
    };
    shorten_warmup(&mut config, &v);
    if let (Some(batches), None) = (values.get("eval-batches"), config.train.eval_every) {
        bail!("eval-batches is {batches}, but needs eval-every, which says when to use them");
    }
    if config.has_unnamed_tokens() && !values.is_given("sample") {
        config.run.sample = 0;
    }
    Ok(config)
}

/// The model in `dir`, and what is to be said about its config.
fn hugging_face(dir: &Path) -> Result<(LlamaConfig, Vec<String>)> {
    let (model, notes) = LlamaConfig::from_hf_dir(dir)?;
    let shown = dir.join("config.json");
    Ok((model, notes.iter().map(|note| format!("{}: {note}", shown.display())).collect()))
}

fn data(v: &Reader) -> Result<DataConfig> {
    Ok(DataConfig {
        data: v.path("data"),
        eval_data: v.path("eval-data"),
        tokenizer: v.path("tokenizer"),
        data_cache: v.path("data-cache"),
        seq_len: v.count("seq-len")?,
        shuffle: v.switch("shuffle"),
    })
}

fn train(v: &Reader) -> Result<TrainConfig> {
    let lr = v.number("lr")?;
    Ok(TrainConfig {
        steps: v.count("steps")?,
        micro_batch: v.count("micro-batch")?,
        global_batch: v.count("global-batch")?,
        seed: v.count("seed")? as u64,
        lr,
        // This default belongs to the default of lr, and follows it.
        min_lr: if v.follows("min-lr", "lr") { lr / 10.0 } else { v.number("min-lr")? },
        warmup: v.count("warmup")?,
        weight_decay: v.number("weight-decay")?,
        clip: v.number("clip")?,
        eval_every: v.optional_count("eval-every")?,
        eval_batches: v.optional_count("eval-batches")?.unwrap_or(4),
    })
}

/// A warm-up goes with the number of steps that it was chosen for. Where another number is laid over
/// both (a flag over a file, or either over the defaults), as for a short trial of a long run, it is
/// shortened.
fn shorten_warmup(config: &mut Config, v: &Reader) {
    let (steps, warmup) = (config.train.steps, config.train.warmup);
    if warmup <= steps || !v.0.is_above("steps", "warmup") {
        return;
    }
    config.train.warmup = steps;
    if v.0.is_given("warmup") && steps > 0 {
        let line = format!("warmup is {warmup}, but steps is {steps}: it is shortened to {steps}");
        config.notes.push(line);
    }
}

fn parallel(v: &Reader) -> Result<ParallelConfig> {
    Ok(ParallelConfig {
        layout: Layout {
            dp: v.count("dp")?,
            pp: v.count("pp")?,
            cp: v.count("cp")?,
            tp: v.count("tp")?,
        },
        tp_sync: v.choice("tp-sync", TpSync::from_name)?,
        dp_sync: v.choice("dp-sync", DpSync::from_name)?,
        bucket_mb: v.number("bucket-mb")?,
        schedule: v.choice("schedule", Schedule::from_name)?,
        cp_layout: v.choice("cp-layout", CpLayout::from_name)?,
    })
}

fn run(v: &Reader, env: impl Fn(&str) -> Option<String>) -> Result<RunConfig> {
    let device = v.choice("device", DeviceName::from_name)?;
    let dry_run = v.switch("dry-run");
    Ok(RunConfig {
        device,
        dtype: v.choice("dtype", Dtype::from_name)?,
        launcher: launcher(v, device, dry_run, env)?,
        threads_per_rank: v.optional_count("threads-per-rank")?,
        timeout: seconds(v.number("timeout")?)?,
        metrics: v.path("metrics"),
        trace: v.path("trace"),
        sample: v.count("sample")?,
        prompt: v.text("prompt")?.to_owned(),
        save: v.path("save"),
        save_every: v.optional_count("save-every")?,
        save_keep: v.optional_count("save-keep")?,
        resume: v.path("resume"),
        export_hf: v.path("export-hf"),
        dry_run,
        gpu: v.choice("gpu", Gpu::from_name)?,
        gpu_of_rank: None,
        gpus: 0,
    })
}

fn launcher(
    v: &Reader,
    device: DeviceName,
    dry_run: bool,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Launcher> {
    if v.0.get("launcher").is_none() {
        return Ok(match device {
            _ if dry_run => Launcher::Threads, // it starts nothing
            DeviceName::Cpu => Launcher::detect(env).unwrap_or(Launcher::Threads),
            DeviceName::Cuda => Launcher::detect(env).unwrap_or(Launcher::Processes),
        });
    }
    Ok(match v.choice("launcher", |name| name.parse().ok())? {
        // The ranks that it starts read the same settings, and find their world described.
        Launcher::Processes if Launcher::has_started(env) => Launcher::Env,
        launcher => launcher,
    })
}

fn architecture(values: &Values) -> Result<LlamaConfig> {
    let model = Value::Table(values.table("model"));
    model.try_into().map_err(|error: toml::de::Error| anyhow!("[model]: {}", error.message()))
}

fn seconds(timeout: f64) -> Result<Duration> {
    // Less passes between any two messages of a run; more is longer than anyone waits, and clocks
    // overflow only far above it.
    ensure!(
        (0.001..=1e9).contains(&timeout),
        "timeout is {timeout:?}, but must be from 0.001 to 1e9 seconds"
    );
    Ok(Duration::from_secs_f64(timeout))
}

/// Values that have a default are never missing; the errors are for whoever edits the defaults.
struct Reader<'a>(&'a Values);

impl<'a> Reader<'a> {
    fn need<T>(&self, name: &str, value: Option<T>) -> Result<T> {
        value.with_context(|| format!("{name} is not set"))
    }

    fn optional_count(&self, name: &str) -> Result<Option<usize>> {
        let count = self.0.get(name).and_then(Value::as_integer);
        Ok(count.map(usize::try_from).transpose()?)
    }

    fn count(&self, name: &str) -> Result<usize> {
        self.need(name, self.optional_count(name)?)
    }

    fn number(&self, name: &str) -> Result<f64> {
        let number = self.need(name, self.0.get(name).and_then(Value::as_float))?;
        ensure!(number.is_finite(), "{name} is {number:?}, but must be finite");
        Ok(number)
    }

    fn switch(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn text(&self, name: &str) -> Result<&'a str> {
        self.need(name, self.0.get(name).and_then(Value::as_str))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.0.get(name).and_then(Value::as_str).map(PathBuf::from)
    }

    fn choice<T>(&self, name: &str, from_name: impl Fn(&str) -> Option<T>) -> Result<T> {
        self.need(name, from_name(self.text(name)?))
    }

    /// Whether `leader` was given, and `name`, whose default goes with the leader's, was not.
    fn follows(&self, name: &str, leader: &str) -> bool {
        self.0.is_given(leader) && !self.0.is_given(name)
    }
}
