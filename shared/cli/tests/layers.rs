//! Flags over a file over the defaults, and what each step knows.

mod steps;

use cli::{Refusal, Start, report_options};
use comm::Layout;
use insta::assert_snapshot;
use launch::Launcher;
use std::time::Duration;
use step06::config::{CpLayout, DpSync, Schedule};
use steps::{Config, Parsed, usual};

fn try_parse(step: u8, args: &[&str]) -> Result<Parsed, Refusal> {
    steps::parse(&usual(step), args.iter().copied(), |_| None)
}

/// Step 6 in its own layout; no files are opened.
fn parse6(args: &[&str]) -> Config {
    cli::parse(&usual(6), args, |_| None).unwrap().config
}

fn parse(step: u8, args: &[&str]) -> Parsed {
    try_parse(step, args).unwrap()
}

/// With a file of this text, and flags after it.
fn with_file(step: u8, text: &str, flags: &[&str]) -> Parsed {
    in_file(text, flags, |args| parse(step, args))
}

fn in_file<T>(text: &str, flags: &[&str], parse: impl FnOnce(&[&str]) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    std::fs::write(&path, text).unwrap();
    parse(&[&["--config", path.to_str().unwrap()], flags].concat())
}

#[test]
fn told_nothing_every_step_runs_its_own_layout() {
    for step in 1..=6 {
        let config = parse(step, &[]);
        assert_eq!(config.launch.layout, usual(step).layout);
        assert_eq!(config.launch.launcher, Launcher::Threads);
        assert!(config.data.data.is_none() && config.hf_model.is_none());
        assert!(config.run.sample > 0);
    }
}

#[test]
fn a_copy_of_the_defaults_suits_every_step() {
    let defaults = include_str!("../../../configs/tiny.toml");
    for step in 1..=6 {
        let plain = parse(step, &[]);
        // Step 6 makes fewer steps.
        let defaults = defaults.replace("steps = 300", &format!("steps = {}", plain.train.steps));
        let copy = with_file(step, &defaults, &[]);
        assert_eq!(copy.shown, plain.shown);
        with_file(step, "[parallel]\ntp = 1\ncp-layout = 'zigzag'\n[run]\ndry-run = false", &[]);
    }
}

#[test]
fn the_defaults_name_every_key() {
    // Optional ones stand there as a comment; the layout is each step's own.
    let defaults = include_str!("../../../configs/tiny.toml");
    let Err(Refusal::Help(help)) = try_parse(6, &["--help"]) else { panic!() };
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    for flag in flags {
        let name = flag.split([' ', '[']).next().unwrap();
        let named = ["config", "dp", "pp", "cp", "tp"].contains(&name)
            || defaults
                .lines()
                .any(|line| line.trim_start_matches("# ").starts_with(&format!("{name} =")));
        assert!(named, "{name}");
    }
}

#[test]
fn flags_are_laid_over_the_file_and_the_file_over_the_defaults() {
    let file = "[train]\nsteps = 7\nlr = 1\n[parallel]\ndp = 4\nschedule = 'afab'\n[model]\nnum_hidden_layers = 2";
    let config = in_file(file, &["--steps", "9", "--pp", "1"], parse6);
    let defaults = parse6(&[]);
    assert_eq!((config.train.steps, config.train.lr), (9, 1.0));
    assert_eq!(config.train.seed, defaults.train.seed);
    assert_eq!(config.model.num_hidden_layers, 2);
    assert_eq!(config.model.hidden_size, defaults.model.hidden_size);
    assert_eq!(config.parallel.layout(), Layout { dp: 4, pp: 1, cp: 2, tp: 2 });
    assert_eq!(config.parallel.schedule, Schedule::AllForwardAllBackward);
}

#[test]
fn of_one_flag_twice_the_later_counts() {
    let config = parse(
        1,
        &["--steps", "3", "--launcher", "processes", "--steps=4", "--launcher", "threads"],
    );
    assert_eq!((config.train.steps, config.launch.launcher), (4, Launcher::Threads));
    let config = parse(1, &["--shuffle", "--shuffle=false"]);
    assert!(!config.data.shuffle);
}

#[test]
fn a_default_follows_the_setting_that_it_goes_with() {
    let train = parse(1, &["--lr", "1e-4", "--steps", "5"]).train;
    assert_eq!((train.min_lr, train.warmup), (1e-4 / 10.0, 5));
    let train = parse(1, &["--lr", "1e-2", "--min-lr", "1e-5", "--steps", "999"]).train;
    assert_eq!((train.min_lr, train.warmup), (1e-5, 10));
    let only_used = parse(1, &["--steps", "0"]).train;
    assert_eq!((only_used.steps, only_used.warmup), (0, 0));
    parse(1, &["--steps", "0", "--warmup", "5"]); // as a configuration may say
}

#[test]
fn a_warm_up_chosen_for_other_steps_is_shortened_and_says_so() {
    let told = |config: &Parsed| config.notes.clone();
    let file = "[train]\nsteps = 100\nwarmup = 40";
    let trial = with_file(1, file, &["--steps", "1"]);
    assert_eq!((trial.train.steps, trial.train.warmup), (1, 1));
    assert_snapshot!(told(&trial).join("\n"), @"warmup is 40, but steps is 1: it is shortened to 1");
    // Nothing is shortened that fits, and where only a default is, nobody has been promised more.
    assert_eq!(with_file(1, file, &["--steps", "40"]).train.warmup, 40);
    for config in [
        with_file(1, file, &["--steps", "40"]),
        with_file(1, file, &[]),
        with_file(1, file, &["--steps", "0"]),
        with_file(1, "[train]\nsteps = 3", &[]),
        parse(1, &["--steps", "3"]),
    ] {
        assert!(told(&config).is_empty(), "{:?}", told(&config));
    }
}

#[test]
fn settings_reach_their_places() {
    let start = cli::parse::<Config>(
        &usual(6),
        [
            "--dp-sync",
            "naive",
            "--bucket-mb",
            "2.5",
            "--cp-layout",
            "contiguous",
            "--timeout",
            "1.5",
            "--threads-per-rank",
            "3",
            "--trace",
            "t.json",
            "--dtype",
            "bf16",
            "--save",
            "s",
            "--save-every",
            "4",
            "--prompt=-- once",
            "--dry-run",
        ],
        |_| None,
    );
    let Start { config, launch, .. } = start.unwrap();
    let (parallel, run) = (&config.parallel, &config.run);
    assert_eq!((parallel.dp_sync, parallel.bucket_mb), (DpSync::Naive, 2.5));
    assert_eq!(parallel.cp_layout, CpLayout::Contiguous);
    assert_eq!((launch.timeout, launch.threads_per_rank), (Duration::from_millis(1500), 3));
    assert!(launch.trace && config.planning.dry_run);
    assert_eq!((run.kind(), run.weights_kind()), (tch::Kind::BFloat16, tch::Kind::Float));
    assert_eq!((config.checkpoints.save_every, run.prompt.as_str()), (Some(4), "-- once"));
    // 8 sequences: 2 replicas, 2 at once.
    assert_eq!(step06::dry_run::run(&config).micro_batches(), 2);
    let options = report_options(&config, true);
    assert_eq!(options.tokens_per_step, 8 * 128);
    // Per layer 128 × (2×128 + 2×64) + 3 × 128 × 384 weights, and 256 × 128 of the output. All
    // parameters: these, as many of the embedding, and 9 norms of 128.
    assert_eq!(options.flops_per_token, 6.0 * 853_120.0 + 12.0 * 4.0 * 128.0 * 128.0);
    assert_eq!(options.strict_flops_per_token, 6.0 * 819_200.0 + 6.0 * 4.0 * 128.0 * 128.0);
    let f64 = parse(1, &["--dtype", "f64"]).run;
    assert_eq!((f64.kind(), f64.weights_kind()), (tch::Kind::Double, tch::Kind::Double));
}

#[test]
fn a_described_world_is_joined_unless_told_otherwise() {
    let world = |name: &str| {
        let value = match name {
            "RANK" => "1",
            "WORLD_SIZE" => "2",
            "MASTER_ADDR" => "127.0.0.1",
            "MASTER_PORT" => "29500",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let launcher = |args: &[&str]| {
        steps::parse(&usual(2), args.iter().copied(), world).unwrap().launch.launcher
    };
    assert_eq!(launcher(&[]), Launcher::Env);
    assert_eq!(launcher(&["--launcher", "threads"]), Launcher::Threads);
}

#[test]
fn a_hugging_face_directory_gives_the_architecture() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"model_type": "llama", "vocab_size": 300, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 512}"#;
    std::fs::write(dir.path().join("config.json"), json).unwrap();
    let model = checkpoint::LlamaConfig::from_hf_json(json).unwrap().0;
    let zeros = |shape: Vec<i64>| tch::Tensor::zeros(shape, (tch::Kind::Float, tch::Device::Cpu));
    let weights: Vec<_> = model.weights().map(|(name, shape)| (name, zeros(shape))).collect();
    let path = dir.path().join("model.safetensors");
    tch::Tensor::write_safetensors(&weights, path).unwrap();
    let path = dir.path().to_str().unwrap();
    let config = with_file(1, "[model]\nhidden_size = 1024", &["--hf-model", path]);
    assert_eq!((config.model.hidden_size, config.model.kv_heads()), (64, 4));
    assert_eq!(config.hf_model.as_deref(), Some(dir.path()));
    let config = with_file(1, &format!("[model]\nhf-model = '{path}'"), &[]);
    assert_eq!(config.model.vocab_size, 300);
}

#[test]
fn tokens_without_a_tokenizer_end_without_a_sample() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    std::fs::write(&path, [0; 1000]).unwrap();
    let flags = ["--data", path.to_str().unwrap()];
    assert_eq!(with_file(1, "[model]\nvocab_size = 5000", &flags).run.sample, 0);
    assert_eq!(parse(1, &flags).run.sample, 200, "a vocabulary of 256 is taken for bytes");
}

#[test]
fn a_dry_run_may_be_larger_than_any_host() {
    let args = "--dry-run --dp 128 --tp 4 --pp 4 --cp 8 --global-batch 1024";
    let config = parse(6, &args.split(' ').collect::<Vec<_>>());
    assert_eq!(config.launch.layout.world(), 16384);
    // It opens no data.
    assert!(!config.launch.agreement.iter().any(|phrase| phrase.starts_with("samples of data")));
}

#[test]
fn a_dry_run_needs_no_data_no_device_and_no_world() {
    let args = "--dry-run --gpu a100 --device cuda --launcher env --data /no/such.txt --tokenizer /no/t.json \
                --save /dev/null --metrics /no/such/m.jsonl";
    let args: Vec<_> = args.split_whitespace().collect();
    parse(6, &args);
    let config = parse6(&args);
    assert_eq!(config.planning.gpu, cli::Gpu::A100);
    assert_eq!(config.planning.gpu.figures().peak(cli::Dtype::Bf16), 312e12);
}

#[test]
fn help_shows_the_flags_of_the_step() {
    let help = |step| match try_parse(step, &["--help"]) {
        Err(Refusal::Help(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(!help(2).contains("--tp"));
    assert!(help(3).contains("--tp") && !help(3).contains("--pp"));
    assert_snapshot!(help(6));
}
