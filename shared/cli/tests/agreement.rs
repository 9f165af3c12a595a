//! In which settings ranks may differ.

mod steps;

use cli::{Start, names};
use steps::{Config, program, step06};

/// How a rank with these settings differs from one with none: the first phrases that do.
fn difference(args: &str) -> Option<(String, String)> {
    let agreement = |args: &str| step06(args.split_whitespace()).unwrap().launch.agreement;
    let (theirs, ours) = (agreement(args), agreement(""));
    let same = theirs.len() == ours.len();
    let found = theirs.into_iter().zip(ours).find(|(theirs, ours)| theirs != ours);
    assert!(same || found.is_some());
    found
}

#[test]
fn what_is_computed_and_said_must_be_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("x.txt"), "a".repeat(1 + 3 * 128)).unwrap();
    std::fs::write(path("x.toml"), "[model]\nnum_hidden_layers = 2").unwrap();
    for (args, theirs, ours) in [
        ("--lr 3e-2 --min-lr 3e-4".into(), "lr 0.03", "lr 0.003"),
        ("--seed 77".into(), "seed 77", "seed 1234"),
        ("--dtype f64".into(), "dtype f64", "dtype f32"),
        ("--dp-sync naive".into(), "dp-sync naive", "dp-sync bucketed"),
        ("--eval-every 5".into(), "eval-every 5", "no eval-every"),
        (format!("--data {}", path("x.txt")), "data", "no data"),
        (format!("--config {}", path("x.toml")), "num_hidden_layers 2", "num_hidden_layers 4"),
        (format!("--save {}", path("s")), "save", "no save"),
        ("--prompt And".into(), "prompt \"And\"", "prompt \"Once \""),
    ] {
        assert_eq!(difference(&args), Some((theirs.into(), ours.into())), "{args}");
    }
}

#[test]
fn a_rank_may_have_its_own_files_and_threads() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = dir.path().join("m.jsonl");
    let args = format!("--threads-per-rank 1 --timeout 5 --metrics {}", metrics.display());
    assert_eq!(difference(&args), None);
    let agreement = |file: &str| {
        let path = dir.path().join(file);
        std::fs::write(&path, "a".repeat(1000)).unwrap();
        let args = ["--data".to_owned(), path.display().to_string()];
        step06(args).unwrap().launch.agreement
    };
    assert_eq!(agreement("here.txt"), agreement("there.txt"));
}

/// Whether ranks may differ in a setting.
enum Answer {
    /// A rank with these arguments, flags or lines of a file, is told from one without them.
    MustAgree(&'static str),
    /// It concerns one rank alone.
    MayDiffer(&'static str),
    /// A run that has it starts no rank.
    StartsNone(&'static str),
    /// It is a part of the layout, which is compared on its own.
    Layout(&'static str),
}

use Answer::{Layout as OfLayout, MayDiffer, MustAgree, StartsNone};

/// What the setting `name` is given to differ, and what both ranks are given so that it can be.
#[rustfmt::skip] // a table
fn answer(name: &str) -> (Answer, &'static str) {
    let alone = |answer| (answer, "");
    match name {
        "vocab_size" => alone(MustAgree("vocab_size = 512")),
        "hidden_size" => alone(MustAgree("hidden_size = 256")),
        "intermediate_size" => alone(MustAgree("intermediate_size = 100")),
        "num_hidden_layers" => alone(MustAgree("num_hidden_layers = 3")),
        "num_attention_heads" => alone(MustAgree("num_attention_heads = 4")),
        "num_key_value_heads" => alone(MustAgree("num_key_value_heads = 2")),
        "head_dim" => alone(MustAgree("head_dim = 32")),
        "rms_norm_eps" => alone(MustAgree("rms_norm_eps = 1e-4")),
        "rope_theta" => alone(MustAgree("rope_theta = 5e5")),
        "rope_scaling" => alone(MustAgree("rope_scaling = { factor = 8, low_freq_factor = 1, high_freq_factor = 4, original_max_position_embeddings = 64 }")),
        "tie_word_embeddings" => alone(MustAgree("tie_word_embeddings = true")),
        "max_position_embeddings" => alone(MustAgree("max_position_embeddings = 4096")),
        "hf-model" => alone(MustAgree("--hf-model DIR")),
        "data" => alone(MustAgree("--data x.txt")),
        "data-cache" => (MayDiffer("--data-cache c"), "--data x.txt"),
        "tokenizer" => alone(MustAgree("--tokenizer x.json")),
        "seq-len" => alone(MustAgree("--seq-len 64")),
        "shuffle" => alone(MustAgree("--shuffle")),
        "steps" => alone(MustAgree("--steps 20")),
        "micro-batch" => alone(MustAgree("--micro-batch 1")),
        "global-batch" => alone(MustAgree("--global-batch 16")),
        "seed" => alone(MustAgree("--seed 5")),
        "lr" => alone(MustAgree("--lr 1e-2")),
        "min-lr" => alone(MustAgree("--min-lr 1e-6")),
        "warmup" => alone(MustAgree("--warmup 3")),
        "weight-decay" => alone(MustAgree("--weight-decay 0.3")),
        "clip" => alone(MustAgree("--clip 3")),
        "dp" => alone(OfLayout("--dp 2")),
        "pp" => alone(OfLayout("--pp 2")),
        "cp" => alone(OfLayout("--cp 2")),
        "tp" => alone(OfLayout("--tp 2")),
        "dp-sync" => alone(MustAgree("--dp-sync naive")),
        "bucket-mb" => alone(MustAgree("--bucket-mb 7")),
        "tp-sync" => alone(MustAgree("--tp-sync blocking")),
        "schedule" => alone(MustAgree("--schedule afab")),
        "cp-layout" => alone(MustAgree("--cp-layout contiguous")),
        "device" => alone(MustAgree("--device cuda")),
        "dtype" => alone(MustAgree("--dtype f64")),
        "launcher" => alone(MayDiffer("--launcher processes")),
        "threads-per-rank" => alone(MayDiffer("--threads-per-rank 2")),
        "timeout" => alone(MayDiffer("--timeout 7")),
        "metrics" => alone(MayDiffer("--metrics m.jsonl")),
        "trace" => alone(MustAgree("--trace t.json")),
        "sample" => alone(MustAgree("--sample 3")),
        "prompt" => alone(MustAgree("--prompt And")),
        "temperature" => alone(MustAgree("--temperature 1")),
        "top-k" => alone(MustAgree("--top-k 5")),
        "log-every" => alone(MayDiffer("--log-every 5")),
        "plot" => alone(MayDiffer("--plot p.svg")),
        "tensorboard" => alone(MayDiffer("--tensorboard t")),
        "eval-every" => alone(MustAgree("--eval-every 5")),
        "eval-batches" => (MustAgree("--eval-batches 3"), "--eval-every 5"),
        "eval-data" => (MustAgree("--eval-data x.txt"), "--eval-every 5"),
        "save" => alone(MustAgree("--save s")),
        "save-every" => (MustAgree("--save-every 3"), "--save s"),
        "save-keep" => (MayDiffer("--save-keep 3"), "--save s"),
        "resume" => alone(MustAgree("--resume s")),
        "export-hf" => alone(MustAgree("--export-hf e")),
        "dry-run" => alone(StartsNone("--dry-run=false")),
        "gpu" => alone(MayDiffer("--gpu a100")),
        _ => panic!("may ranks differ in {name}?"),
    }
}

#[test]
fn of_every_setting_it_is_known_whether_ranks_may_differ_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display().to_string();
    let json = r#"{"model_type": "llama", "vocab_size": 300, "hidden_size": 64, "rms_norm_eps": 1e-5,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}"#;
    std::fs::write(dir.path().join("config.json"), json).unwrap();
    let parse = |given: &[&str]| {
        let (mut flags, mut file) = (vec!["--dry-run".to_owned()], String::from("[model]\n"));
        for given in given {
            if given.contains(" = ") {
                file += given;
            } else {
                flags.extend(given.split_whitespace().map(|word| word.replace("DIR", &shown)));
            }
        }
        let path = dir.path().join("run.toml");
        std::fs::write(&path, file).unwrap();
        flags.extend(["--config".to_owned(), path.display().to_string()]);
        cli::parse::<Config>(&program(6), flags, |_| None).unwrap()
    };
    for (_, name) in names::<Config>() {
        let (answer, both) = answer(&name);
        let (MustAgree(given) | MayDiffer(given) | OfLayout(given) | StartsNone(given)) = answer;
        let (theirs, ours) = (parse(&[both, given]), parse(&[both]));
        let shown = [&theirs, &ours].map(|start| format!("{:?}", start.config));
        assert_ne!(shown[0], shown[1], "{name}: {given} changes nothing");
        let [theirs, ours] = [theirs, ours].map(|Start { launch, .. }| launch);
        let pairs = theirs.agreement.iter().zip(&ours.agreement);
        let different: Vec<_> = pairs.filter(|(theirs, ours)| theirs != ours).collect();
        let names = |phrase: &str| phrase.split(' ').any(|word| word == name);
        match answer {
            MustAgree(_) => assert!(
                different.iter().any(|(theirs, ours)| names(theirs) && names(ours)),
                "{name}: only {different:?}"
            ),
            MayDiffer(_) => assert!(different.is_empty(), "{name}: {different:?}"),
            StartsNone(_) => {}
            OfLayout(_) => assert!(different.is_empty() && theirs.layout != ours.layout, "{name}"),
        }
    }
}

#[test]
fn data_and_prompts_are_compared_beyond_their_size_and_their_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let agreement = |name: &str, text: &str| {
        let path = dir.path().join("x.txt");
        std::fs::write(&path, text).unwrap();
        let (path, words) = (path.display().to_string(), text.to_owned());
        let args = match name {
            "data" => vec!["--data".to_owned(), path],
            "eval-data" => ["--data", &path, "--eval-every", "1", "--eval-data", &path]
                .map(str::to_owned)
                .into(),
            _ => vec!["--prompt".to_owned(), words],
        };
        step06(args).unwrap().launch.agreement
    };
    for name in ["data", "eval-data", "prompt"] {
        let [one, same, other] = ["a", "a", "b"].map(|end| {
            let far = "far ".repeat(50); // beyond what is shown of a prompt
            agreement(name, &format!("{far}{end}{far}"))
        });
        assert_eq!(one, same, "{name}");
        assert_ne!(one, other, "{name}");
    }
}
