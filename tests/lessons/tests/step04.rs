//! Step 4, pipeline parallelism: the lists, one stage between neighbours that only pass messages,
//! then the whole.

use checkpoint::{LlamaConfig, Placement};
use comm::{Layout, Mesh};
use data::MicroBatch;
use lessons::{
    Expected, Held, Model, Updates, check, check_all, check_bits, check_bytes,
    check_error_is_passed_on, check_grads, check_losses, check_norms, micro_batches, numbers,
    one_device, place, start, world, world_of,
};
use report::Pass;
use std::sync::{Arc, Mutex};
use step04::config::{Config, Schedule};
use step04::layers::Parameter;
use step04::pipeline_parallel::PipelineParallel;
use step04::schedule::{passes, stages};
use step04::train::Trainer;
use tch::Tensor;

const SCHEDULES: [(Schedule, &str); 2] =
    [(Schedule::AllForwardAllBackward, "afab"), (Schedule::OneForwardOneBackward, "1f1b")];

fn pipeline(pp: usize) -> Layout {
    Layout { pp, ..Layout::default() }
}

fn name(mesh: &Mesh) -> String {
    place(mesh.layout, mesh.coords)
}

// The lists

/// Lists of every small pipeline: (schedule, stages, micro-batches, a list for each stage).
fn lists() -> Vec<(&'static str, usize, usize, Vec<Vec<Pass>>)> {
    let mut all = vec![];
    for (schedule, word) in SCHEDULES {
        for (p, m) in (1..=5).flat_map(|p| (1..=8).map(move |m| (p, m))) {
            all.push((word, p, m, (0..p).map(|stage| passes(schedule, stage, p, m)).collect()));
        }
    }
    all
}

#[test]
fn every_pass_is_made_once_and_in_order() {
    for (word, p, m, lists) in lists() {
        for (stage, list) in lists.iter().enumerate() {
            let place = format!("{word}, stage {stage} of {p}, {m} micro-batches: {list:?}");
            let made = |forward: bool| -> Vec<usize> {
                let number = |pass: &Pass| match *pass {
                    Pass::Forward(i) => (i, true),
                    Pass::Backward(i) => (i, false),
                };
                list.iter().map(number).filter(|(_, f)| *f == forward).map(|(i, _)| i).collect()
            };
            let in_order: Vec<usize> = (0..m).collect();
            assert_eq!(made(true), in_order, "forward passes, {place}");
            assert_eq!(made(false), in_order, "backward passes, {place}");
            for i in 0..m {
                let at = |pass| list.iter().position(|p| *p == pass);
                let before = at(Pass::Forward(i)) < at(Pass::Backward(i));
                assert!(before, "micro-batch {i} goes back before it has come forward, {place}");
            }
        }
    }
}

#[test]
fn a_stage_keeps_as_many_micro_batches_as_its_schedule_says() {
    for (word, p, m, lists) in lists() {
        for (stage, list) in lists.iter().enumerate() {
            let mut kept = 0;
            let mut most = 0;
            for pass in list {
                kept += if matches!(pass, Pass::Forward(_)) { 1 } else { -1 };
                most = most.max(kept);
            }
            let expected = if word == "afab" { m } else { m.min(p - stage) };
            assert_eq!(
                most, expected as i32,
                "{word}: stage {stage} of {p} keeps the activations of {most} micro-batches \
                 at a time, of {m}, expected {expected}"
            );
        }
    }
}

/// A forward pass takes one unit of time, a backward pass two, and messages none.
#[test]
fn no_stage_waits_for_ever_nor_longer_than_the_bubble() {
    for (word, p, m, lists) in lists() {
        let mut done = std::collections::BTreeMap::<(usize, bool, usize), usize>::new();
        let (mut next, mut free) = (vec![0; p], vec![0; p]);
        loop {
            let mut moved = false;
            for stage in 0..p {
                while let Some(pass) = lists[stage].get(next[stage]) {
                    let (needs, key, takes) = match *pass {
                        Pass::Forward(i) => {
                            (stage.checked_sub(1).map(|s| (s, true, i)), (stage, true, i), 1)
                        }
                        Pass::Backward(i) => {
                            let behind = (stage + 1 < p).then_some((stage + 1, false, i));
                            (behind, (stage, false, i), 2)
                        }
                    };
                    let Some(ready) = needs.map_or(Some(0), |key| done.get(&key).copied()) else {
                        break;
                    };
                    free[stage] = free[stage].max(ready) + takes;
                    done.insert(key, free[stage]);
                    next[stage] += 1;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        for stage in 0..p {
            let pass = lists[stage].get(next[stage]);
            assert!(
                pass.is_none(),
                "{word}, {p} stages, {m} micro-batches: stage {stage} waits for ever in its {}",
                pass.map_or(String::new(), Pass::to_string)
            );
        }
        let (took, expected) = (free.iter().max().copied().unwrap_or(0), 3 * (m + p - 1));
        assert_eq!(took, expected, "{word}, {p} stages, {m} micro-batches: units of time");
    }
}

// The stages

#[test]
fn stages_share_the_layers_and_the_head_counts() {
    let model = start::<Config>(4, &Model::default().flags("")).config.model;
    // In multiplications a token: a layer is 32·(2·48 + 2·24 + 3·48) + 48·16 = 9,984, so a head of
    // 312 words is a layer.
    let lengths = |vocab_size: i64, layers: i64, p: usize| -> Vec<i64> {
        let config = LlamaConfig { vocab_size, num_hidden_layers: layers, ..model.clone() };
        let ranges = stages(&config, 16, p);
        assert_eq!(ranges.len(), p, "of {p} stages");
        let joined = ranges.windows(2).all(|pair| pair[0].end == pair[1].start);
        assert!(
            joined && ranges[0].start == 0 && ranges[p - 1].end == layers,
            "{p} stages must have the {layers} layers in order, each once: {ranges:?}"
        );
        ranges.iter().map(|range| range.end - range.start).collect()
    };
    for (vocab, layers, expected) in [
        (312, 8, vec![8]),
        (312, 7, vec![4, 3]),
        (312, 8, vec![3, 3, 2]),
        (1560, 11, vec![5, 5, 1]),
        (60_000, 4, vec![1, 1, 1, 1]),
        (1, 9, vec![2, 2, 3, 2]),
    ] {
        let got = lengths(vocab, layers, expected.len());
        assert_eq!(
            got, expected,
            "layers of each stage, of {layers}, with a head of {vocab} words"
        );
    }
}

// One stage between neighbours that only pass messages

const MICRO_BATCHES: usize = 3;
const BATCH: &str = "--global-batch 6 --micro-batch 2";
const TOKENS: f64 = 6.0 * 16.0;

/// What stage `stage` of `pp` leaves behind, and what its neighbours got from it.
struct Stage {
    place: String,
    loss: f64,
    told: Vec<bool>,
    grads: Vec<(String, Tensor, Tensor)>,
    activations: Vec<(Tensor, Tensor)>,
    gradients: Vec<(Tensor, Tensor)>,
}

/// The activations, or the gradients, that a neighbour sends with micro-batch `i`.
fn message(i: usize, gradient: bool) -> Tensor {
    numbers(50 + 2 * i as i64 + i64::from(gradient), &[2, 16, 32])
}

/// Runs one stage; each neighbour takes and gives all its messages in order.
fn one_stage(schedule: &'static str, stage: usize, pp: usize) -> Stage {
    let model = Model { layers: 3, ..Model::default() };
    let flags = model.flags(&format!("{BATCH} --dp 1 --pp {pp} --schedule {schedule}"));
    let mut start = start::<Config>(4, &flags);
    let text = step04::text::open(&mut start).unwrap();
    let config = start.config;
    let got: Arc<Mutex<[Vec<Tensor>; 2]>> = Arc::default();
    let seen = got.clone();
    let mut outcomes = world_of(&start.launch, move |mesh| {
        let trainer = Trainer::new(&config, &text, mesh)?;
        let (rank, group) = (mesh.pp.rank(), &mesh.pp);
        if rank != stage {
            let empty = || message(0, false).empty_like();
            if rank + 1 == stage {
                // Whatever the order of the stage's passes, messages of a kind come in theirs.
                let sent: Vec<_> =
                    (0..MICRO_BATCHES).map(|i| group.isend(&message(i, false), stage)).collect();
                for _ in 0..MICRO_BATCHES {
                    let gradients = group.irecv(&empty(), stage).wait()?;
                    seen.lock().unwrap()[1].push(gradients);
                }
                sent.into_iter().try_for_each(|work| work.wait())?;
            }
            if rank == stage + 1 {
                let mut sent = vec![];
                for i in 0..MICRO_BATCHES {
                    let activations = group.irecv(&empty(), stage).wait()?;
                    seen.lock().unwrap()[0].push(activations);
                    sent.push(group.isend(&message(i, true), stage));
                }
                sent.into_iter().try_for_each(|work| work.wait())?;
            }
            return Ok(None);
        }
        let micro_batches = micro_batches(MICRO_BATCHES, 2, model.vocab);
        let told = Mutex::new(vec![]);
        let pipeline = PipelineParallel::new(&config, mesh);
        let loss = pipeline.run(&trainer.model, &micro_batches, TOKENS, |is_last| {
            told.lock().unwrap().push(is_last);
        })?;
        let ours: Vec<Tensor> =
            trainer.model.parameters().iter().map(|p| p.tensor.grad().copy()).collect();
        let (activations, gradients) =
            by_hand(&trainer, &micro_batches, stage, pp).expect("the model works");
        let grads = trainer.model.parameters().iter().zip(ours);
        let grads = grads.map(|(p, ours)| (p.name.clone(), p.tensor.grad(), ours)).collect();
        let told = told.into_inner().unwrap();
        let loss = loss.double_value(&[]);
        Ok(Some((name(mesh), loss, told, grads, activations, gradients)))
    });
    let (place, loss, told, grads, activations, gradients) = outcomes.remove(stage).unwrap();
    let [got_activations, got_gradients] = std::mem::take(&mut *got.lock().unwrap());
    let pairs = |a: Vec<Tensor>, b: Vec<Tensor>| a.into_iter().zip(b).collect();
    Stage {
        place,
        loss,
        told,
        grads,
        activations: pairs(activations, got_activations),
        gradients: pairs(gradients, got_gradients),
    }
}

/// The same passes without a pipeline: leaves gradients in the parameters; returns what the stage
/// should have passed on and passed back.
fn by_hand(
    trainer: &Trainer,
    micro_batches: &[MicroBatch],
    stage: usize,
    pp: usize,
) -> anyhow::Result<(Vec<Tensor>, Vec<Tensor>)> {
    for parameter in trainer.model.parameters() {
        autograd::clear_grad(&parameter.tensor)?;
    }
    let (mut activations, mut gradients) = (vec![], vec![]);
    for (i, micro_batch) in micro_batches.iter().enumerate() {
        let input = (stage > 0).then(|| message(i, false).set_requires_grad(true));
        let x = trainer.model.forward(&micro_batch.inputs, input.as_ref())?;
        if stage + 1 == pp {
            autograd::backward(&(trainer.model.loss(&x, &micro_batch.targets)? / TOKENS))?;
        } else {
            activations.push(x.detach());
            autograd::backward_with(&x, &message(i, true))?;
        }
        gradients.extend(input.map(|input| input.grad()));
    }
    Ok((activations, gradients))
}

/// First, middle and last stage under both schedules.
fn every_stage(test: impl Fn(&Stage, &str, usize)) {
    for (_, schedule) in SCHEDULES {
        for stage in 0..3 {
            test(&one_stage(schedule, stage, 3), schedule, stage);
        }
    }
}

#[test]
fn a_stage_passes_on_the_activations_of_each_micro_batch() {
    every_stage(|stage, schedule, _| {
        for (i, (expected, got)) in stage.activations.iter().enumerate() {
            let what = format!("{schedule}: what it passes on of micro-batch {i}");
            let of = Expected { what: &what, place: &stage.place, from: "its layers" };
            check_bits(&of, expected, got);
        }
    });
}

#[test]
fn a_stage_passes_back_the_gradient_of_what_it_received() {
    every_stage(|stage, schedule, _| {
        for (i, (expected, got)) in stage.gradients.iter().enumerate() {
            let what = format!("{schedule}: what it passes back of micro-batch {i}");
            let of = Expected { what: &what, place: &stage.place, from: "its layers" };
            check(&of, expected, got);
        }
    });
}

#[test]
fn the_gradients_of_a_stage_add_up_over_the_micro_batches() {
    every_stage(|stage, schedule, _| {
        for (name, expected, got) in stage.grads.iter().rev() {
            let what = format!("{schedule}: the gradient of {name}");
            let of = Expected { what: &what, place: &stage.place, from: "its layers" };
            check(&of, expected, got);
        }
    });
}

#[test]
fn the_loss_is_the_last_stages_and_zero_on_the_others() {
    every_stage(|stage, schedule, number| {
        let got = stage.loss;
        if number < 2 {
            assert_eq!(got, 0.0, "{schedule}: {} has no loss, and reports one", stage.place);
            return;
        }
        // Random words, of which a model without any training knows nothing.
        let place = &stage.place;
        assert!((got - 259f64.ln()).abs() < 0.5, "{schedule}: the loss on {place} is {got}");
    });
}

#[test]
fn the_last_backward_pass_and_no_other_is_announced_as_the_last() {
    every_stage(|stage, schedule, _| {
        assert_eq!(
            stage.told,
            [false, false, true],
            "{schedule}, {}: what `before_backward` is told before the three backward passes",
            stage.place
        );
    });
}

// Tied embeddings

#[test]
fn the_gradients_of_a_tied_embedding_are_summed_over_both_its_stages() {
    for pp in [1, 2, 3] {
        let outcomes = world(pipeline(pp), move |mesh| {
            let parameter = |name: &str, seed: i64, pp: Placement| {
                let grad = numbers(seed + 10 * mesh.rank as i64, &[4, 3]);
                let tensor = grad.zeros_like().set_requires_grad(true);
                autograd::set_grad(&tensor, &grad).unwrap();
                let global_shape = vec![4, 3];
                let tp = Placement::Replicate;
                Parameter { name: name.into(), tensor, global_shape, decays: true, tp, pp }
            };
            let mut parameters = vec![parameter("alone", 1, Placement::Alone)];
            if mesh.rank == 0 || mesh.rank + 1 == pp {
                parameters.insert(0, parameter("tied", 2, Placement::Partial));
            }
            let flags = Model::default().flags(&format!("--dp 1 --pp {pp}"));
            let model = Model { layers: 3, ..Model::default() };
            let flags = if pp > 2 { model.flags(&format!("--dp 1 --pp {pp}")) } else { flags };
            let config = start::<Config>(4, &flags).config;
            PipelineParallel::new(&config, mesh).sum_partial_grads(&parameters)?;
            let grads = parameters.iter().map(|p| (p.name.clone(), p.tensor.grad()));
            Ok((name(mesh), grads.collect::<Vec<_>>(), mesh.pp.bytes_sent()))
        });
        for (rank, (place, grads, sent)) in outcomes.iter().enumerate() {
            let end = rank == 0 || rank + 1 == pp;
            for (name, got) in grads {
                let expected = match name.as_str() {
                    "alone" => numbers(1 + 10 * rank as i64, &[4, 3]),
                    _ if pp == 1 => numbers(2, &[4, 3]),
                    _ => numbers(2, &[4, 3]) + numbers(2 + 10 * (pp as i64 - 1), &[4, 3]),
                };
                let what = format!("of {pp} stages, the gradient that is {name}");
                let of = Expected { what: &what, place, from: "the plain sum" };
                check(&of, &expected, got);
            }
            let expected = if end && pp > 1 { 12 * 8 } else { 0 };
            check_bytes(&format!("of {pp} stages, the tied gradient"), place, expected, *sent);
        }
    }
}

#[test]
fn an_error_of_a_message_ends_the_step() {
    let model = Model::default();
    let flags = model.flags(&format!("{BATCH} --dp 1 --pp 2"));
    let mut start = start::<Config>(4, &flags);
    let text = step04::text::open(&mut start).unwrap();
    let config = start.config;
    let tied = config.clone();
    check_error_is_passed_on("run", &start.launch, move |mesh| {
        let trainer = Trainer::new(&config, &text, mesh)?;
        let micro_batches = micro_batches(MICRO_BATCHES, 2, model.vocab);
        let pipeline = PipelineParallel::new(&config, mesh);
        pipeline.run(&trainer.model, &micro_batches, TOKENS, |_| ()).map(|_| ())
    });
    check_error_is_passed_on("sum_partial_grads", &start.launch, move |mesh| {
        let tensor = numbers(1, &[4, 3]).set_requires_grad(true);
        autograd::set_grad(&tensor, &numbers(2, &[4, 3]))?;
        let (tp, pp) = (Placement::Replicate, Placement::Partial);
        let (name, global_shape) = (String::new(), vec![4, 3]);
        let parameter = Parameter { name, tensor, global_shape, decays: true, tp, pp };
        PipelineParallel::new(&tied, mesh).sum_partial_grads(&[parameter])
    });
}

// The whole

const WHOLE: &str = "--global-batch 8 --micro-batch 2";

fn train(model: Model, pp: usize, schedule: &str, updates: usize) -> Vec<Updates> {
    let flags = model.flags(&format!("{WHOLE} --dp 1 --pp {pp} --schedule {schedule}"));
    let mut start = start::<Config>(4, &flags);
    let text = step04::text::open(&mut start).unwrap();
    let config = start.config;
    world_of(&start.launch, move |mesh| {
        let mut trainer = Trainer::new(&config, &text, mesh)?;
        let micro_batches = micro_batches(4, 2, model.vocab);
        Updates::take(name(mesh), updates, || {
            let stats = trainer.update(&micro_batches)?;
            let held = trainer.model.parameters().iter().map(|p| Held {
                name: p.name.clone(),
                weight: p.tensor.shallow_clone(),
                grad: p.tensor.grad(),
                region: p.tp.region(&p.global_shape, 0, 1),
            });
            Ok((stats, held.collect()))
        })
    })
}

/// Runs in every form against one device.
fn in_every_form(updates: usize, test: impl Fn(&Updates, &[Updates])) {
    for tied in [false, true] {
        let model = Model { tied, layers: 4, ..Model::default() };
        let one = one_device(model, WHOLE, &micro_batches(4, 2, model.vocab), updates);
        for (_, schedule) in SCHEDULES {
            for pp in [1, 2, 3] {
                test(&one, &train(model, pp, schedule, updates));
            }
        }
    }
}

#[test]
fn the_first_loss_is_that_of_one_device() {
    in_every_form(1, check_losses);
}

#[test]
fn the_gradient_norm_is_that_of_one_device() {
    in_every_form(1, check_norms);
}

#[test]
fn every_gradient_is_that_of_one_device() {
    in_every_form(1, check_grads);
}

#[test]
fn every_weight_is_that_of_one_device_after_three_updates() {
    in_every_form(3, check_all);
}

#[test]
fn a_boundary_is_crossed_once_by_each_micro_batch_and_once_by_its_gradient() {
    for tied in [false, true] {
        let model = Model { tied, layers: 4, ..Model::default() };
        let pp = 3;
        for (rank, run) in train(model, pp, "1f1b", 1).iter().enumerate() {
            let activations = 2 * 16 * 32 * 8;
            let (first, last) = (rank == 0, rank + 1 == pp);
            let neighbours = u64::from(!first) + u64::from(!last);
            let ends = if tied && (first || last) { 259 * 32 * 8 } else { 0 };
            let numbers = 2 * comm::all_reduce_bytes(1, 8, rank, pp); // loss and norm
            let expected = neighbours * 4 * activations + ends + numbers;
            let sent = run.updates[0].stats.comm_bytes["pp"];
            check_bytes(&format!("one update, tied {tied}"), &run.place, expected, sent);
        }
    }
}
