//! Step 6, the full trainer: what a checkpoint holds, and a run that goes on from it.

use checkpoint::Region;
use checkpoint::saved::{CheckpointReader, Piece};
use data::MicroBatch;
use lessons::{
    Expected, Held, Model, Updates, check, check_bits, check_grads, check_losses, check_norms,
    check_weights, micro_batches, one_device, place, start, world_error, world_of,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use step06::config::Config;
use step06::train::Trainer;
use tch::Tensor;

const BATCH: &str = "--global-batch 4 --micro-batch 1";

fn batch() -> Vec<MicroBatch> {
    micro_batches(4, 1, Model::default().vocab)
}

/// What a run does after it has got ready.
#[derive(Clone, Copy)]
struct Plan {
    updates: usize,
    tied: bool,
}

fn model(tied: bool) -> Model {
    Model { tied, layers: 2, ..Model::default() }
}

/// Trains under `layout`, from the checkpoint in `resume` if there is one, and saves to `save`.
fn run(plan: Plan, layout: &str, resume: Option<&Path>, save: Option<&Path>) -> Vec<Updates> {
    let mut flags = model(plan.tied).flags(&format!("{BATCH} {layout}"));
    if let Some(dir) = resume {
        flags.extend(["--resume".into(), dir.display().to_string()]);
    }
    let mut start = start::<Config>(6, &flags);
    let texts = step06::held_out::open(&mut start).unwrap().expect("no dry run");
    let (config, save) = (start.config, save.map(PathBuf::from));
    world_of(&start.launch, move |mesh| {
        let mut trainer = Trainer::new(&config, &texts, mesh)?;
        let all = batch();
        let own = all.len() / mesh.layout.dp;
        let own = &all[own * mesh.coords.dp..][..own];
        let (tp, ranks) = (mesh.coords.tp, mesh.layout.tp);
        let updates = Updates::take(place(mesh.layout, mesh.coords), plan.updates, || {
            let stats = trainer.update(own)?;
            let held = trainer.model.parameters().iter().map(|p| Held {
                name: p.name.clone(),
                weight: p.tensor.shallow_clone(),
                grad: p.tensor.grad(),
                region: p.tp.region(&p.global_shape, tp, ranks),
            });
            Ok((stats, held.collect()))
        })?;
        if let Some(dir) = &save {
            trainer.save(dir)?;
        }
        Ok(updates)
    })
}

const LAYOUTS: [&str; 5] = [
    "--dp 1 --pp 1 --cp 1 --tp 1",
    "--dp 1 --pp 1 --cp 1 --tp 2",
    "--dp 2 --pp 1 --cp 1 --tp 1",
    "--dp 1 --pp 2 --cp 2 --tp 1",
    "--dp 2 --pp 2 --cp 1 --tp 2",
];

fn whole(name: &str, shape: Vec<i64>) -> Piece {
    Piece { name: name.to_owned(), region: Region::whole(&shape), global_shape: shape }
}

/// What one device has after `updates` updates.
fn one(tied: bool, updates: usize) -> Updates {
    one_device(model(tied), BATCH, &batch(), updates)
}

// What is saved

/// Saves after one update under every layout, and reads whole tensors from what is there.
fn each_saved(suffix: &str, expected: impl Fn(&Held) -> Tensor) {
    for tied in [false, true] {
        let one = one(tied, 1);
        // A tied embedding stands on the first stage and on the last.
        for layout in LAYOUTS.into_iter().filter(|layout| !tied || layout.contains("--pp 2")) {
            let dir = tempfile::tempdir().unwrap();
            run(Plan { updates: 1, tied }, layout, None, Some(dir.path()));
            let reader = CheckpointReader::open(dir.path()).unwrap_or_else(|e| panic!("{e:#}"));
            for held in &one.updates[0].held {
                let name = format!("{}{suffix}", held.name);
                let got = reader
                    .read(&whole(&name, held.weight.size()))
                    .unwrap_or_else(|error| panic!("saved under {layout}: {error:#}"));
                let what = format!("{name}, as it was saved,");
                let of = Expected { what: &what, place: layout, from: "step01" };
                check(&of, &expected(held), &got);
            }
        }
    }
}

#[test]
fn a_checkpoint_holds_every_weight_in_its_place() {
    each_saved("", |held| held.weight.copy());
}

#[test]
fn a_checkpoint_holds_the_first_moments_in_their_places() {
    each_saved(".exp_avg", |held| &held.grad * 0.1);
}

#[test]
fn a_checkpoint_holds_the_second_moments_in_their_places() {
    each_saved(".exp_avg_sq", |held| held.grad.square() * (1.0 - 0.95));
}

#[test]
fn replicas_share_the_writing() {
    for (layout, ranks) in [("--dp 2 --pp 1 --cp 1 --tp 1", 2), ("--dp 2 --pp 1 --cp 2 --tp 1", 4)]
    {
        let dir = tempfile::tempdir().unwrap();
        run(Plan { updates: 0, tied: false }, layout, None, Some(dir.path()));
        let saved = dir.path().join("step-000000");
        let mut sizes = vec![];
        for entry in std::fs::read_dir(saved).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().ends_with(".safetensors") {
                sizes.push(entry.metadata().unwrap().len());
            }
        }
        assert_eq!(sizes.len(), ranks, "{layout}: how many ranks write a file");
        let (all, most) = (sizes.iter().sum::<u64>(), sizes.iter().max().copied().unwrap_or(0));
        // 259 rows of the embedding, or of the head, are most of what there is.
        assert!(
            most as f64 <= 0.75 * all as f64,
            "{layout}: one of {ranks} ranks writes {most} of {all} bytes: {sizes:?}"
        );
    }
}

// A run that goes on

/// Two updates, a checkpoint, two more under another layout.
fn gone_on(tied: bool, from: &str, to: &str) -> Vec<Updates> {
    let dir = tempfile::tempdir().unwrap();
    run(Plan { updates: 2, tied }, from, None, Some(dir.path()));
    run(Plan { updates: 2, tied }, to, Some(dir.path()), None)
}

/// What one device does in its third and fourth update.
fn later(tied: bool) -> Updates {
    let mut one = one(tied, 4);
    one.updates.drain(..2);
    one
}

fn in_every_pair(test: impl Fn(&Updates, &[Updates])) {
    for (i, from) in LAYOUTS.iter().enumerate() {
        let tied = i % 2 == 1;
        test(&later(tied), &gone_on(tied, from, LAYOUTS[(i + 1) % LAYOUTS.len()]));
    }
}

#[test]
fn the_first_loss_after_a_checkpoint_is_that_of_a_run_without_one() {
    in_every_pair(|one, ranks| {
        let first = |u: &Updates| {
            let of = |u: &lessons::Update| lessons::Update { stats: u.stats.clone(), held: vec![] };
            Updates { place: u.place.clone(), updates: u.updates.iter().take(1).map(of).collect() }
        };
        check_losses(&first(one), &ranks.iter().map(first).collect::<Vec<_>>());
    });
}

#[test]
fn the_gradients_after_a_checkpoint_are_those_of_a_run_without_one() {
    in_every_pair(check_grads);
}

#[test]
fn the_weights_after_a_checkpoint_are_those_of_a_run_without_one() {
    in_every_pair(|one, ranks| {
        check_weights(one, ranks);
        check_losses(one, ranks);
        check_norms(one, ranks);
    });
}

#[test]
fn a_run_goes_on_with_its_next_step_number_and_learning_rate() {
    let (one, ranks) = (later(false), gone_on(false, LAYOUTS[2], LAYOUTS[1]));
    for rank in &ranks {
        for (expected, got) in one.updates.iter().zip(&rank.updates) {
            let (expected, got) =
                ((expected.stats.step, expected.stats.lr), (got.stats.step, got.stats.lr));
            assert_eq!(got, expected, "step and learning rate on {}", rank.place);
        }
    }
}

#[test]
fn a_run_that_goes_on_in_the_same_layout_has_the_same_bits() {
    for layout in LAYOUTS {
        let through = run(Plan { updates: 4, tied: false }, layout, None, None);
        for (through, rank) in through.iter().zip(gone_on(false, layout, layout)) {
            for (a, b) in through.updates[2..].iter().zip(&rank.updates) {
                for (a, b) in a.held.iter().zip(&b.held) {
                    let what = format!("after update {} under {layout}, {}", 4, a.name);
                    let of = Expected {
                        what: &what,
                        place: &rank.place,
                        from: "a run without a checkpoint",
                    };
                    check_bits(&of, &a.weight, &b.weight);
                }
            }
        }
    }
}

// What is refused

/// Resumes on two ranks; the sentence that refuses it, and whether a weight was overwritten.
fn refused(dir: &Path, flags: &str) -> (Option<String>, bool) {
    let layout = "--dp 1 --pp 1 --cp 1 --tp 2";
    let flags = model(false).flags(&format!("{BATCH} {layout} {flags}"));
    let mut start = start::<Config>(6, &flags);
    let texts = step06::held_out::open(&mut start).unwrap().expect("no dry run");
    let (config, dir) = (start.config, dir.to_owned());
    let overwritten = Arc::new(Mutex::new(false));
    let seen = overwritten.clone();
    let error = world_error(&start.launch, move |mesh| {
        let trainer = Trainer::new(&config, &texts, mesh)?;
        let parameters = trainer.model.parameters();
        let before: Vec<Tensor> = parameters.iter().map(|p| p.tensor.detach().copy()).collect();
        let mut optimizer = step06::optimizer::Optimizer::new(parameters, 0.1);
        let resumed = step06::sharded_checkpoint::resume(
            &dir,
            parameters,
            &mut optimizer,
            &config,
            &texts.training,
            mesh,
        );
        let same =
            parameters.iter().zip(&before).all(|(p, before)| p.tensor.detach().equal(before));
        *seen.lock().unwrap() |= !same;
        resumed.map(|_| ())
    });
    let overwritten = *overwritten.lock().unwrap();
    (error, overwritten)
}

#[test]
fn other_data_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    run(Plan { updates: 1, tied: false }, LAYOUTS[1], None, Some(dir.path()));
    let other = dir.path().join("other.bin");
    std::fs::write(&other, (0..4000u16).flat_map(|i| (i % 259).to_le_bytes()).collect::<Vec<u8>>())
        .unwrap();
    let (error, overwritten) = refused(dir.path(), &format!("--data {}", other.display()));
    let error = error.expect("a checkpoint of one text goes on with another, and nobody says so");
    assert!(error.contains("samples"), "the sentence must say what differs: {error}");
    assert!(!overwritten, "weights are overwritten before the data is looked at");
}

#[test]
fn a_damaged_file_is_refused_before_anything_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    run(Plan { updates: 1, tied: false }, "--dp 1 --pp 1 --cp 1 --tp 2", None, Some(dir.path()));
    let file = dir.path().join("step-000001/rank-00001.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (error, overwritten) = refused(dir.path(), "");
    let error = error.expect("a file of the checkpoint is damaged, and the run goes on from it");
    assert!(error.contains("rank-00001"), "the sentence must name the file: {error}");
    assert!(!overwritten, "a rank overwrites its weights before every file has been found intact");
}
