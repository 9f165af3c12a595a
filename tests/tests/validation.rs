//! The loss on held-out text: a mean over samples that each count once, in every layout, on the
//! line of its step.

mod common;

use checkpoint::LlamaConfig;
use comm::Layout;
use common::{Model, layout_flags, layouts};
use data::{Dataset, Random, Tokenizer};
use parity::parse;
use report::Validation;
use std::path::{Path, PathBuf};
use std::process::Command;
use step06::train::{Trainer, run};
use tch::Tensor;

const SEQ: usize = 16;
const ONE: &str = "--dp 1 --pp 1 --cp 1 --tp 1";
/// Where it is set, [`a_run_of_its_own`] makes this run.
const CHILD: &str = "FERROTRON_TEST_VALIDATION";

/// A file of random tokens that has `samples` samples, and not quite another.
fn held_out(dir: &Path, samples: usize) -> PathBuf {
    let mut random = Random::new(3, 0);
    let tokens = (0..samples * SEQ + SEQ).map(|_| random.below(256) as u16);
    let path = dir.join(format!("{samples}.bin"));
    std::fs::write(&path, tokens.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    path
}

fn flags(path: &Path, run: &str) -> Vec<String> {
    Model { layers: 4, ..Model::default() }.flags(&format!("{run} --eval-data {}", path.display()))
}

/// The mean loss of each sample of a file, by the first weights of one device.
fn losses(path: &Path) -> Vec<f64> {
    let config =
        parse::<step01::config::Config>(&Model { layers: 4, ..Model::default() }.flags(""))
            .unwrap();
    let one = step01::train::Trainer::new(&config, config.texts(), report::Trace::off()).unwrap();
    let LlamaConfig { vocab_size, .. } = config.model;
    let cache = data::TokenCache { dir: None, say: &|_| {} }; // bytes need none
    let data = Dataset::open(path, &Tokenizer::Bytes, cache, vocab_size as usize, SEQ).unwrap();
    let loss = |sample: usize| {
        let tokens = Tensor::from_slice(&data.sample(sample).unwrap()).unsqueeze(0);
        let [inputs, targets] =
            [0, 1].map(|start| tokens.narrow(1, start, SEQ as i64).contiguous());
        let sum = tch::no_grad(|| one.model.loss(&inputs, &targets)).unwrap();
        sum.double_value(&[]) / SEQ as f64
    };
    (0..data.samples()).map(loss).collect()
}

#[test]
fn each_sample_counts_once_in_every_layout() {
    let dir = tempfile::tempdir().unwrap();
    let mut all: Vec<Layout> = [1, 2, 4].into_iter().flat_map(layouts).collect();
    all.extend(
        [(2, 2, 1, 2), (4, 2, 1, 1), (2, 2, 2, 1), (1, 2, 2, 2)].map(|(dp, pp, cp, tp)| Layout {
            dp,
            pp,
            cp,
            tp,
        }),
    );
    // A global batch has 8 samples. One sample, which some replicas do not get; micro-batches that
    // are half full; all that was asked for, in a file of as many and in one of more.
    for (samples, batches, asked) in
        [(1, 4, 1), (3, 4, 3), (6, 1, 6), (8, 1, 8), (13, 2, 13), (20, 1, 8), (20, 2, 16)]
    {
        let path = held_out(dir.path(), samples);
        let losses = losses(&path);
        assert_eq!(losses.len(), samples);
        let mean = losses[..asked].iter().sum::<f64>() / asked as f64;
        for &layout in &all {
            // The order of the training text is not that of the held-out one.
            let how = format!("{} --shuffle --eval-every 1", layout_flags(layout));
            let how = format!("--global-batch 8 --micro-batch 2 {how} --eval-batches {batches}");
            let config = parse::<step06::config::Config>(&flags(&path, &how)).unwrap();
            let ours = launch::launch(&config.launch(), move |mesh| {
                Trainer::new(&config, config.texts(), mesh)?.evaluate()
            });
            for Validation { loss, samples: counted } in ours.unwrap() {
                assert_eq!(counted, asked, "{samples} samples, {how}");
                approx::assert_relative_eq!(loss, mean, max_relative = 1e-10);
            }
        }
    }
}

/// Step and validation loss of each line of a metrics file.
fn written(path: &Path) -> Vec<(u64, Option<f64>)> {
    let text = std::fs::read_to_string(path).unwrap();
    let of = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["step"].as_u64().unwrap(), line["val_loss"].as_f64())
    };
    text.lines().map(of).collect()
}

#[test]
fn every_evaluation_reads_the_same_samples() {
    let dir = tempfile::tempdir().unwrap();
    let (path, metrics) = (held_out(dir.path(), 40), dir.path().join("m.jsonl"));
    for layout in [ONE, "--dp 2 --pp 2 --cp 1 --tp 1"] {
        let run_flags =
            format!("--global-batch 4 --micro-batch 1 --steps 5 {layout} --eval-every 1");
        let run_flags = format!("{run_flags} --eval-batches 2 --metrics {}", metrics.display());
        let mut config = parse::<step06::config::Config>(&flags(&path, &run_flags)).unwrap();
        (config.train.lr, config.train.min_lr) = (0.0, 0.0); // so that no weight moves
        launch::launch(&config.launch(), move |mesh| run(&config, config.texts(), mesh)).unwrap();
        let losses = written(&metrics);
        assert_eq!(losses.len(), 5);
        assert!(
            losses.iter().all(|(_, loss)| loss.is_some() && *loss == losses[0].1),
            "{losses:?}"
        );
    }
}

/// Makes the run that another test asks for, so that what is printed can be read.
#[test]
fn a_run_of_its_own() {
    let Ok(flags) = std::env::var(CHILD) else { return };
    let config =
        parse::<step06::config::Config>(&flags.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .unwrap();
    launch::launch(&config.launch(), move |mesh| run(&config, config.texts(), mesh)).unwrap();
}

fn printed(flags: &[String]) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "a_run_of_its_own", "--nocapture"]).env(CHILD, flags.join(" "));
    String::from_utf8(child.output().unwrap().stdout).unwrap()
}

#[test]
fn a_loss_stands_on_the_line_of_its_step_and_of_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let (path, metrics) = (held_out(dir.path(), 40), dir.path().join("m.jsonl"));
    let base =
        format!("--global-batch 4 --micro-batch 2 --steps 5 {ONE} --eval-batches 3 --log-every 1");
    // After each number of updates, from 1.
    let config =
        parse::<step06::config::Config>(&flags(&path, &format!("{base} --eval-every 1"))).unwrap();
    let after = launch::launch(&config.launch(), move |mesh| {
        let mut trainer = Trainer::new(&config, config.texts(), mesh)?;
        let step = |_| {
            trainer.step()?;
            Ok(trainer.evaluate()?.loss)
        };
        (0..5).map(step).collect::<anyhow::Result<Vec<f64>>>()
    });
    let after = after.unwrap().remove(0);
    assert!(after.windows(2).all(|pair| (pair[0] - pair[1]).abs() > 1e-3), "{after:?}");
    // After the last step, too, whether it is a multiple or not, and where there is no multiple.
    for (every, due) in [(1, &[1, 2, 3, 4, 5][..]), (2, &[2, 4, 5]), (5, &[5]), (9, &[5])] {
        let run_flags = format!("{base} --eval-every {every} --metrics {}", metrics.display());
        let text = printed(&flags(&path, &run_flags));
        let lines = text.lines().filter(|line| line.starts_with("step "));
        for ((step, loss), line) in (1..).zip(&after).zip(lines.collect::<Vec<_>>()) {
            assert!(line.starts_with(&format!("step {step}/5  ")), "{line}");
            let told = line.find("val_loss").map(|at| &line[at..]);
            let expected = format!("val_loss {loss:.4} over 12 samples");
            assert_eq!(told, due.contains(&step).then_some(&*expected), "every {every}: {line}");
        }
        let expected: Vec<_> = (1..)
            .zip(&after)
            .map(|(step, loss)| (step as u64, due.contains(&step).then_some(*loss)))
            .collect();
        assert_eq!(written(&metrics), expected, "every {every}");
    }
}

#[test]
fn the_sum_over_samples_is_kept_in_f32_where_bf16_is_computed_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = held_out(dir.path(), 16);
    for layout in [ONE, "--dp 1 --pp 2 --cp 1 --tp 2"] {
        let run = format!("--global-batch 4 --micro-batch 4 {layout} --eval-every 1 --dtype bf16");
        let config = parse::<step06::config::Config>(&flags(&path, &run)).unwrap();
        let ours = launch::launch(&config.launch(), move |mesh| {
            Trainer::new(&config, config.texts(), mesh)?.evaluate()
        });
        for Validation { loss, .. } in ours.unwrap() {
            assert_ne!((loss as f32).to_bits() & 0xffff, 0, "{layout}: {loss} is in bf16");
        }
    }
}
