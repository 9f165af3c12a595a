//! What a reporter makes of the times and numbers that it is given.

use super::*;
use crate::CommBytes;
use std::process::Command;

fn stats(step: usize, loss: f64) -> StepStats {
    let comm_bytes = CommBytes::from_iter([("dp", 7)]);
    StepStats { step, loss, grad_norm: 1.5, lr: 1e-3, comm_bytes }
}

#[test]
fn the_leader_alone_writes_metrics() {
    let dir = tempfile::tempdir().unwrap();
    for leader in [false, true] {
        let path = dir.path().join(format!("{leader}.jsonl"));
        let metrics = Some(path.clone());
        let peak_flops = Some(1e12);
        let options = Options {
            leader,
            steps: 2,
            tokens_per_step: 64,
            flops_per_token: 1e3,
            strict_flops_per_token: 750.0,
            peak_flops,
            peak_memory: || Some(12_345),
            metrics,
            ..Options::default()
        };
        let mut reporter = Reporter::new(options).unwrap();
        reporter.step(&stats(1, 2.0)).unwrap();
        reporter.step(&stats(2, 1.0)).unwrap();
        let summary = reporter.finish().unwrap();
        assert_eq!((summary.steps, summary.losses), (2, Some((2.0, 1.0))));
        assert_eq!(summary.mfu, Some(mfu(summary.tokens_per_second, 1e3, 1e12)));
        assert_eq!(summary.mfu_strict, Some(mfu(summary.tokens_per_second, 750.0, 1e12)));
        assert_eq!(summary.peak_memory_bytes, Some(12_345));
        assert_eq!(path.exists(), leader);
        if leader {
            let text = std::fs::read_to_string(path).unwrap();
            let line: serde_json::Value =
                serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!((&line["step"], &line["tokens"]), (&2.into(), &128.into()));
            let speed = line["tokens_per_second"].as_f64().unwrap();
            assert_eq!(line["mfu"].as_f64().unwrap(), mfu(speed, 1e3, 1e12));
            assert_eq!(line["mfu_strict"].as_f64().unwrap(), mfu(speed, 750.0, 1e12));
            assert_eq!(line["peak_memory_bytes"], 12_345);
            assert_eq!(text.lines().count(), 2);
        }
    }
}

#[test]
fn the_time_of_a_validation_and_of_a_checkpoint_is_no_step_s() {
    let (start, pause) = (Instant::now(), Duration::from_millis(50));
    let mut reporter = Reporter::new(Options { steps: 1, ..Options::default() }).unwrap();
    let work = || {
        std::thread::sleep(pause);
        Ok(Validation { loss: 2.0, samples: 1 })
    };
    reporter.validate(work).unwrap();
    reporter.untimed(work).unwrap();
    reporter.step(&stats(1, 2.0)).unwrap();
    let seconds = reporter.finish().unwrap().seconds;
    assert!(start.elapsed().as_secs_f64() - seconds >= 2.0 * pause.as_secs_f64());
}

#[test]
fn a_validation_that_no_step_follows_is_shown_at_the_end() {
    let mut reporter = Reporter::new(Options::default()).unwrap();
    reporter.validate(|| Ok(Validation { loss: 2.5, samples: 3 })).unwrap();
    let told = "no steps  val_loss 2.5000 over 3 samples";
    assert_eq!(reporter.finish().unwrap().to_string(), told);
}

#[test]
fn a_metrics_path_that_cannot_be_made_is_named_at_once() {
    let metrics = Some("/nowhere/m.jsonl".into());
    let refused = Reporter::new(Options { leader: true, metrics, ..Options::default() });
    let error = format!("{:#}", refused.err().unwrap());
    assert!(error.starts_with("cannot write the metrics file /nowhere/m.jsonl: "), "{error}");
}

/// A reporter of steps of 100 tokens that took so many seconds each.
fn after(seconds: &[u64]) -> Reporter {
    let options = Options {
        tokens_per_step: 100,
        flops_per_token: 3.0,
        strict_flops_per_token: 2.0,
        peak_flops: Some(1000.0),
        ..Options::default()
    };
    let mut reporter = Reporter::new(options).unwrap();
    reporter.durations = seconds.iter().map(|&seconds| Duration::from_secs(seconds)).collect();
    reporter
}

#[test]
fn the_speed_of_a_run_is_that_of_its_last_half() {
    for (seconds, all, speed) in [
        (&[40, 10, 1, 4][..], 55.0, 200.0 / 5.0),
        (&[40, 1, 1, 4, 5], 51.0, 300.0 / 10.0), // of five steps, the last three
        (&[4], 4.0, 100.0 / 4.0),
        (&[4, 5], 9.0, 100.0 / 5.0),
        (&[], 0.0, 0.0),
    ] {
        let summary = after(seconds).finish().unwrap();
        assert_eq!((summary.steps, summary.seconds), (seconds.len(), all), "{seconds:?}");
        assert_eq!(summary.tokens_per_second, speed, "{seconds:?}");
        assert_eq!(summary.mfu, Some(speed * 3.0 / 1000.0), "{seconds:?}");
        assert_eq!(summary.mfu_strict, Some(speed * 2.0 / 1000.0), "{seconds:?}");
    }
}

#[test]
fn a_step_has_taken_the_time_since_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.jsonl");
    let options = Options {
        leader: true,
        steps: 3,
        tokens_per_step: 100,
        metrics: Some(path.clone()),
        ..Options::default()
    };
    let mut reporter = Reporter::new(options).unwrap();
    let start = Instant::now();
    let ago = [Duration::from_secs(50), Duration::from_secs(5), Duration::from_secs(20)];
    for (step, ago) in (1..).zip(ago) {
        reporter.last -= ago; // as if it had been so long ago
        reporter.step(&stats(step, 2.0)).unwrap();
    }
    let more = start.elapsed(); // that this test itself took
    let text = std::fs::read_to_string(path).unwrap();
    for ((line, ago), kept) in text.lines().zip(ago).zip(&reporter.durations) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(*kept >= ago && *kept <= ago + more, "{kept:?}, not {ago:?}");
        assert_eq!(line["tokens_per_second"], 100.0 / kept.as_secs_f64());
    }
}

#[test]
fn a_validation_is_written_on_the_line_of_the_next_step_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.jsonl");
    let metrics = Some(path.clone());
    let mut reporter =
        Reporter::new(Options { leader: true, steps: 3, metrics, ..Options::default() }).unwrap();
    reporter.step(&stats(1, 2.0)).unwrap();
    reporter.validate(|| Ok(Validation { loss: 2.5, samples: 3 })).unwrap();
    reporter.step(&stats(2, 2.0)).unwrap();
    reporter.step(&stats(3, 2.0)).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| lines.iter().map(|line| line[key].as_f64()).collect::<Vec<_>>();
    assert_eq!(of("val_loss"), [None, Some(2.5), None]);
    assert_eq!(of("val_samples"), [None, Some(3.0), None]);
}

/// Where it is set, the test below is the rank of this number.
const CHILD: &str = "FERROTRON_TEST_LEADER";

#[test]
fn a_resumed_run_says_so_before_its_first_step_on_the_leader() {
    if let Ok(rank) = std::env::var(CHILD) {
        let leader = rank == "0";
        let options = Options { leader, steps: 4, start: 3, ..Options::default() };
        Reporter::new(options).unwrap().step(&stats(4, 2.0)).unwrap();
        return;
    }
    let printed = |rank| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let name = "reporter::tests::a_resumed_run_says_so_before_its_first_step_on_the_leader";
        child.args(["--exact", name, "--nocapture"]).env(CHILD, rank);
        String::from_utf8(child.output().unwrap().stdout).unwrap()
    };
    let told = "goes on after step 3 of 4\nstep 4/4  loss 2.0000";
    assert!(printed("0").contains(told), "{}", printed("0"));
    assert!(!printed("1").contains("goes on"), "{}", printed("1"));
}

#[test]
fn a_run_draws_its_losses_and_those_of_the_run_that_it_goes_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let steps = |start: usize, steps: usize, leader: bool| {
        let (metrics, plot) = (Some(at("m.jsonl")), Some(at("loss.svg")));
        let tensorboard = Some(at("events"));
        let options =
            Options { leader, steps, start, metrics, plot, tensorboard, ..Options::default() };
        let mut reporter = Reporter::new(options).unwrap();
        (start + 1..=steps)
            .for_each(|step| reporter.step(&stats(step, 5.0 / step as f64)).unwrap());
        reporter
    };
    let drawn = || std::fs::read_to_string(at("loss.svg")).unwrap();
    steps(0, 3, false).finish().unwrap();
    assert!(dir.path().read_dir().unwrap().next().is_none(), "the leader alone writes");
    steps(0, 3, true).finish().unwrap();
    assert!(
        drawn().contains("training: from 5.0000 at step 1 to 1.6667 at step 3."),
        "{}",
        drawn()
    );
    assert_eq!(at("events").read_dir().unwrap().count(), 1);
    steps(3, 5, true).finish().unwrap();
    assert!(
        drawn().contains("training: from 5.0000 at step 1 to 1.0000 at step 5."),
        "{}",
        drawn()
    );
    // A run that fails draws what it has reached.
    let mut diverging = steps(0, 2, true);
    diverging.step(&stats(3, f64::NAN)).unwrap_err();
    drop(diverging);
    assert!(drawn().contains("to 2.5000 at step 2."), "{}", drawn());
}

#[test]
fn the_lines_of_a_run_are_those_that_are_asked_for_and_its_last() {
    let name = "reporter::tests::the_lines_of_a_run_are_those_that_are_asked_for_and_its_last";
    if let Ok(how) = std::env::var(CHILD) {
        let log_every = how.parse().ok();
        let options = Options { leader: true, steps: 9, log_every, ..Options::default() };
        let mut reporter = Reporter::new(options).unwrap();
        for step in 1..=7 {
            if step == 2 {
                reporter.validate(|| Ok(Validation { loss: 2.5, samples: 3 })).unwrap();
            }
            reporter.step(&stats(step, 2.0)).unwrap();
        }
        reporter.finish().unwrap(); // two steps early
        return;
    }
    let printed = |how: &str| -> Vec<usize> {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name, "--nocapture"]).env(CHILD, how);
        let text = String::from_utf8(child.output().unwrap().stdout).unwrap();
        let step = |line: &str| line.strip_prefix("step ")?.split('/').next()?.parse().ok();
        text.lines().filter_map(step).collect()
    };
    assert_eq!(printed("none"), [1, 2, 7], "the first, that with a validation loss, the last");
    assert_eq!(printed("3"), [1, 2, 3, 6, 7]);
    assert_eq!(printed("1"), [1, 2, 3, 4, 5, 6, 7]);
}
