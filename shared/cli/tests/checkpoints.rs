//! Which checkpoints a run may go on from, and which would be in its way.

mod steps;

use checkpoint::LlamaConfig;
use checkpoint::saved::CheckpointWriter;
use cli::{Refusal, Start};
use insta::assert_snapshot;
use std::path::Path;
use steps::Config;

/// What step06 makes of `args`, where DIR is `dir`: the settings, or its refusal.
fn parse(dir: &Path, args: &str) -> Result<Config, String> {
    start(dir, args).map(|start| start.config)
}

fn start(dir: &Path, args: &str) -> Result<Start<Config>, String> {
    let path = dir.to_str().unwrap();
    let args = args.split_whitespace().map(|arg| arg.replace("DIR", path));
    steps::step06(args).map_err(|refusal| match refusal {
        Refusal::Invalid(sentence) => sentence.replace(path, "DIR"),
        Refusal::Help(text) => panic!("{text}"),
    })
}

fn refused(dir: &Path, args: &str) -> String {
    parse(dir, args).expect_err("it was taken")
}

/// A directory with checkpoints in DIR/ck, by updates, of the default model as `change` leaves it.
fn checkpoints(steps: &[usize], change: impl Fn(&mut LlamaConfig)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut start = start(dir.path(), "").unwrap();
    let text = step06::held_out::open(&mut start).unwrap().unwrap().training;
    let mut config = start.config;
    change(&mut config.model);
    for &step in steps {
        let draft = CheckpointWriter::new(&dir.path().join("ck"), step);
        draft.begin().unwrap();
        draft.commit(&config.model, cli::progress(&config, &text, step), vec![]).unwrap();
    }
    dir
}

#[test]
fn one_that_this_run_would_write_is_in_the_way() {
    let dir = checkpoints(&[2, 4], |_| ());
    let (refused, parse) = (|args| refused(dir.path(), args), |args| parse(dir.path(), args));
    assert_snapshot!(refused("--steps 2 --save DIR/ck"), @"save DIR/ck: DIR/ck/step-000002 already exists, and this run would overwrite it: resume from it, or save elsewhere");
    assert_snapshot!(refused("--steps 9 --save DIR/ck --save-every 4"), @"save DIR/ck: DIR/ck/step-000004 already exists, and this run would overwrite it: resume from it, or save elsewhere");
    assert_snapshot!(refused("--steps 9 --save DIR/ck --save-every 2 --resume DIR/ck/step-000002"), @"save DIR/ck: DIR/ck/step-000004 already exists, and this run would overwrite it: resume from it, or save elsewhere");
    parse("--steps 9 --save DIR/ck --save-every 2 --resume DIR/ck").unwrap();
    parse("--steps 9 --save DIR/ck --save-every 3").unwrap();
}

#[test]
fn a_finished_one_can_still_be_sampled_and_exported() {
    let dir = checkpoints(&[2, 4], |_| ());
    let args = "--steps 4 --save DIR/ck --save-every 2 --resume DIR/ck --export-hf DIR/hf";
    parse(dir.path(), args).unwrap();
    assert_snapshot!(refused(dir.path(), "--steps 3 --resume DIR/ck"), @"resume DIR/ck: steps is 3, but DIR/ck/step-000004 has made 4 already");
}

#[test]
fn a_finished_one_is_written_elsewhere_but_not_again() {
    let dir = checkpoints(&[4], |_| ());
    let save = |args| parse(dir.path(), args).unwrap().checkpoints.save.is_some();
    assert!(save("--steps 4 --resume DIR/ck --save DIR/other"));
    assert!(!save("--steps 4 --resume DIR/ck --save DIR/ck"));
    assert!(!save("--steps 4 --resume DIR/ck/step-000004 --save DIR/other/../ck"));
    // What is called like it elsewhere may be another run's.
    std::fs::create_dir(dir.path().join("other/step-000004")).unwrap();
    assert_snapshot!(refused(dir.path(), "--steps 4 --resume DIR/ck --save DIR/other"), @"save DIR/other: DIR/other/step-000004 already exists, and this run would overwrite it: resume from it, or save elsewhere");
}

#[test]
fn nothing_is_written_over_the_one_that_is_read() {
    let dir = checkpoints(&[4], |_| ());
    let over = |resume| {
        let args =
            format!("--steps 9 --resume {resume} --metrics DIR/ck/step-000004/checkpoint.json");
        refused(dir.path(), &args)
    };
    assert_snapshot!(over("DIR/ck"), @"metrics DIR/ck/step-000004/checkpoint.json would overwrite resume: name another file");
    assert_eq!(over("DIR/ck"), over("DIR/ck/step-000004"));
    parse(dir.path(), "--steps 9 --resume DIR/ck --metrics DIR/ck/metrics.jsonl").unwrap();
}

#[test]
fn what_becomes_other_where_a_run_goes_on_is_told() {
    let dir = checkpoints(&[4], |_| ()); // by a run with the defaults
    let saved = checkpoint::saved::CheckpointReader::open(&dir.path().join("ck")).unwrap();
    // Not a learning rate that anybody would want, but one that tells its settings.
    let rate = |of: &cli::TrainConfig| of.lr * of.min_lr * of.warmup as f64 / of.steps as f64;
    let changes = |progress: &checkpoint::saved::Progress, args: &str| {
        let config = parse(dir.path(), &format!("--resume DIR/ck {args}")).unwrap();
        cli::changes(&config, progress, rate).unwrap_or("nothing".into())
    };
    let told = |args: &str| changes(saved.progress(), args);
    assert_snapshot!(told(""), @"nothing");
    assert_snapshot!(told("--steps 4"), @"nothing");
    assert_snapshot!(told("--steps 900"), @"goes on otherwise than before: steps was 300 and becomes 900; the learning rate of step 5 was 3.00e-8 and becomes 1.00e-8");
    assert_snapshot!(told("--lr 0.001 --min-lr 0.0003"), @"goes on otherwise than before: lr was 0.003 and becomes 0.001; the learning rate of step 5 was 3.00e-8 and becomes 1.00e-8");
    assert_snapshot!(told("--min-lr 0"), @"goes on otherwise than before: min-lr was 0.0003 and becomes 0.0; the learning rate of step 5 was 3.00e-8 and becomes 0.00e0");
    assert_snapshot!(told("--warmup 20"), @"goes on otherwise than before: warmup was 10 and becomes 20; the learning rate of step 5 was 3.00e-8 and becomes 6.00e-8");
    assert_snapshot!(told("--weight-decay 0 --clip 0"), @"goes on otherwise than before: clip was 1.0 and becomes 0.0, weight-decay was 0.1 and becomes 0.0");
    assert_snapshot!(told("--dtype bf16"), @"goes on otherwise than before: dtype was f32 and becomes bf16");
    // What changes no result, or only the order of sums.
    assert_snapshot!(told("--micro-batch 1 --tp 2 --cp 2 --seed 5 --sample 3 --schedule afab --eval-every 2"), @"nothing");
    let mut old = saved.progress().clone();
    old.settings.clear();
    assert_snapshot!(changes(&old, "--steps 900"), @"nothing");
}

#[test]
fn a_checkpoint_from_before_settings_were_kept_still_opens() {
    let dir = checkpoints(&[4], |_| ());
    let path = dir.path().join("ck/step-000004/checkpoint.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let progress = manifest["progress"].as_object_mut().unwrap();
    assert_eq!(progress["settings"]["lr"], "0.003");
    progress.remove("settings").unwrap();
    std::fs::write(&path, manifest.to_string()).unwrap();
    parse(dir.path(), "--steps 900 --resume DIR/ck").unwrap();
}

#[test]
fn metrics_go_on_in_a_file_of_metrics() {
    let dir = checkpoints(&[4], |_| ());
    std::fs::write(dir.path().join("notes.txt"), "remember the milk").unwrap();
    assert_snapshot!(refused(dir.path(), "--steps 9 --resume DIR/ck --metrics DIR/notes.txt"), @"metrics DIR/notes.txt: it holds lines that are not metrics: name another file");
}

#[test]
fn the_data_must_be_the_same() {
    let dir = checkpoints(&[4], |_| ());
    std::fs::write(dir.path().join("other.txt"), "text ".repeat(999)).unwrap();
    assert_snapshot!(refused(dir.path(), "--steps 9 --resume DIR/ck --data DIR/other.txt"), @"resume DIR/ck: DIR/ck/step-000004 was made with data of 8191 samples, but these have 39: resume with the same data");
    // As many samples as the tales have, with other words.
    let tales = data::corpus::text(data::corpus::SIZE).replace("the", "The");
    std::fs::write(dir.path().join("other.txt"), tales).unwrap();
    assert_snapshot!(refused(dir.path(), "--steps 9 --resume DIR/ck --data DIR/other.txt"), @"resume DIR/ck: DIR/ck/step-000004 was made with other data: resume with the same data");
}

#[test]
fn the_model_is_compared_and_not_its_spelling() {
    let run = "--steps 9 --resume DIR/ck";
    let dir = checkpoints(&[4], |model| model.head_dim = Some(model.head_dim()));
    parse(dir.path(), run).unwrap();
    let dir = checkpoints(&[4], |model| model.head_dim = Some(2 * model.head_dim()));
    assert_snapshot!(refused(dir.path(), run), @"resume DIR/ck: DIR/ck/step-000004 is of a model with head_dim 32, but this one has 16");
}
