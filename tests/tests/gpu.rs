//! On GPUs, over NCCL: every layout computes what it computes on the CPU. One GPU is enough: ranks
//! that outnumber the cards share them. Where there is none, a stand-in made of host memory and
//! threads takes its place (`stand-in/`): all but the GPU's own kernels and NCCL itself is then
//! tested just so.
//!
//! Ranks that share a card take turns on it, and a layout may take minutes. With
//! `PARITY_FEW_LAYOUTS=1` in the environment some layouts stand for all.
#![cfg(target_os = "linux")] // CUDA, and what takes its place here, are for Linux

mod common;

use comm::Layout;
use common::{Model, assert_killed_rank_is_named, layout_flags, layouts, on_stand_in};
use parity::{Bound, Record, compare, record};
use std::process::Command;
use std::sync::Once;
use std::time::{Duration, Instant};

/// A command that finds a GPU, or the stand-in; says which, and why.
fn on_gpu(program: &str) -> Command {
    static SAY: Once = Once::new();
    let mut command = Command::new(program);
    match gpu::load() {
        Ok(count) => SAY.call_once(|| println!("on {count} GPUs")),
        Err(why) => {
            SAY.call_once(|| println!("no GPU ({why}): on the stand-in for one"));
            on_stand_in(&mut command);
        }
    }
    command
}

/// Trains a step in processes with a GPU each, and compares every rank with the same
/// rank on the CPU.
fn agree(step: u8, model: Model, run: &str, bound: Bound) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = on_gpu(env!("CARGO_BIN_EXE_record"));
    let flags = model.flags(&format!("{run} --device cuda"));
    command.arg(step.to_string()).arg(dir.path()).args(flags);
    let start = Instant::now();
    assert!(command.status().unwrap().success(), "{run}");
    println!("step {step}, {run}: {:.1} s", start.elapsed().as_secs_f64());
    for on_cpu in record(step, &model.flags(run)).unwrap() {
        let on_gpu = Record::read(dir.path(), on_cpu.rank).unwrap();
        let what = format!("step {step}, {run}, {model:?} rank {}", on_cpu.rank);
        let worst = compare(&what, &on_cpu.tensors(), &on_gpu, bound);
        println!("{what}: largest relative error {worst:.1e}");
    }
}

/// Layouts to run, and how many sequences each replica takes in a step at most.
fn chosen(few: bool) -> (Vec<Layout>, usize) {
    let every = [1, 2, 4, 8].into_iter().flat_map(layouts);
    if !few {
        return (every.collect(), 8);
    }
    // Each way of splitting alone, and beside each other one.
    let stands = |l: &Layout| {
        let sizes = (l.dp, l.pp, l.cp, l.tp);
        l.world() <= 2
            || [(2, 2, 1, 1), (1, 1, 2, 2), (2, 1, 2, 2), (2, 2, 2, 1), (1, 2, 2, 2)]
                .contains(&sizes)
    };
    (every.filter(stands).collect(), 2)
}

#[test]
fn every_layout_of_2_4_and_8_ranks_computes_on_gpus_what_it_computes_on_the_cpu() {
    let (layouts, sequences) = chosen(std::env::var_os("PARITY_FEW_LAYOUTS").is_some());
    println!("{} of 35 layouts (PARITY_FEW_LAYOUTS=1: ten)", layouts.len());
    for layout in layouts {
        let model = Model { tied: layout.dp == 1, layers: layout.pp.max(4), ..Model::default() };
        let batch = 8.min(sequences * layout.dp);
        let run = format!("--global-batch {batch} --micro-batch 1 {}", layout_flags(layout));
        // The sums of a matrix product are in another order there, and so are those over ranks.
        agree(6, model, &run, Bound::REORDERED);
    }
}

#[test]
fn a_few_layouts_stand_for_all_only_where_that_is_asked_for() {
    let count =
        |layouts: &[Layout], world: usize| layouts.iter().filter(|l| l.world() == world).count();
    let counts = |layouts: Vec<Layout>| [1, 2, 4, 8].map(|world| count(&layouts, world));
    assert_eq!(counts(chosen(false).0), [1, 4, 10, 20]);
    assert_eq!(counts(chosen(true).0), [1, 4, 2, 3]);
}

#[test]
fn every_step_does_so() {
    for (step, layout) in [
        (1, ""),
        (1, "--global-batch 130 --micro-batch 130"), // more tokens than a GPU's slice of the loss
        (2, "--dp 4"),
        (2, "--dp 2 --dp-sync naive"),
        (3, "--dp 2 --tp 2"),
        (4, "--dp 1 --pp 2 --tp 2"),
        (5, "--dp 1 --pp 1 --cp 4 --tp 1"),
        (7, "--dp 1 --pp 2 --cp 1 --tp 2 --sp-gather once"), // two sequences: tokens in two strips
        (7, "--dp 1 --pp 1 --cp 2 --tp 2 --recompute layer"),
    ] {
        let run = format!("--global-batch 8 --micro-batch 2 {layout}");
        agree(step, Model { tied: true, ..Model::default() }, run.trim(), Bound::REORDERED);
    }
}

#[test]
fn both_schedules_and_both_sequence_layouts_do_too() {
    for way in ["--schedule afab --cp-layout zigzag", "--schedule 1f1b --cp-layout contiguous"] {
        let run = format!("--global-batch 8 --micro-batch 1 --dp 1 --pp 2 --cp 2 --tp 2 {way}");
        agree(6, Model { tied: true, layers: 4, ..Model::default() }, &run, Bound::REORDERED);
    }
}

/// Flash attention needs heads of eight and more, so this is not the model of the other tests.
#[test]
fn bf16_with_flash_attention_follows_f32() {
    let run = |more: &str| {
        let dir = tempfile::tempdir().unwrap();
        let flags =
            "--micro-batch 2 --global-batch 8 --steps 30 --seq-len 64 --sample 0 --device cuda";
        let mut command = on_gpu(env!("CARGO_BIN_EXE_record"));
        command.arg("6").arg(dir.path()).args(flags.split(' ')).args(more.split(' '));
        assert!(command.status().unwrap().success(), "{more}");
        let tensors = Record::read(dir.path(), 0).unwrap();
        let loss = |step: usize| tensors[&format!("step {step}: loss")].double_value(&[]);
        (1..=30).map(loss).collect::<Vec<_>>()
    };
    let f32 = run("--dtype f32 --dp 1 --pp 1 --cp 1 --tp 1");
    for layout in ["--dp 1 --pp 1 --cp 1 --tp 1", "--dp 1 --pp 1 --cp 2 --tp 2"] {
        for (a, b) in run(&format!("--dtype bf16 {layout}")).iter().zip(&f32) {
            // Products err by 2⁻⁸, and thirty updates let the paths drift apart.
            approx::assert_relative_eq!(*a, *b, max_relative = 0.02);
        }
    }
}

#[test]
fn fused_attention_gives_what_plain_products_give() {
    assert!(on_gpu(env!("CARGO_BIN_EXE_attention")).status().unwrap().success());
}

#[test]
fn nccl_and_the_rings_give_the_same_numbers() {
    for layout in [
        "--dp 2 --pp 1 --cp 1 --tp 1",
        "--dp 2 --pp 2 --cp 1 --tp 1",
        "--dp 2 --pp 1 --cp 2 --tp 2",
    ] {
        let mut command = on_gpu(env!("CARGO_BIN_EXE_collectives"));
        command.args(layout.split(' ')).args(["--device", "cuda"]);
        assert!(command.status().unwrap().success(), "{layout}");
    }
}

#[test]
fn a_rank_killed_among_gpus_ends_the_run_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = "--device cuda --global-batch 8 --micro-batch 1 --dp 1 --pp 2 --cp 1 --tp 2 \
               --steps 1000000 --launcher processes";
    let mut command = on_gpu(env!("CARGO_BIN_EXE_record"));
    command.arg("6").arg(dir.path()).args(Model::default().flags(run));
    // The system takes seconds to tear down what a process had on a real GPU.
    let soon = Duration::from_secs(if gpu::load().is_ok() { 20 } else { 5 });
    assert_killed_rank_is_named(command, 4, 2, "dp0 pp1 cp0 tp0", soon);
}
