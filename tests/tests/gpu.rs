//! On GPUs, over NCCL: every layout computes what it computes on the CPU. One GPU is enough: ranks that
//! outnumber the cards share them. Where there is none, a stand-in made of host memory and threads takes
//! its place (`stand-in/`): all but the GPU's own kernels and NCCL itself is then tested just so.

mod common;

use common::{Model, assert_killed_rank_is_named, layout_flags, layouts};
use parity::{Bound, Record, Tensors, compare, record};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

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

/// Where the dynamic linker looks first.
fn on_stand_in(command: &mut Command) {
    let others =
        std::env::var("LD_LIBRARY_PATH").map_or(String::new(), |paths| format!(":{paths}"));
    command.env("LD_LIBRARY_PATH", format!("{}{others}", env!("STAND_IN")));
}

/// Trains a step in processes with a GPU each, and compares every rank with the same rank on the CPU.
fn agree(step: u8, model: Model, run: &str, bound: Bound) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = on_gpu(env!("CARGO_BIN_EXE_record"));
    let flags = model.flags(&format!("{run} --device cuda"));
    command.arg(step.to_string()).arg(dir.path()).args(flags);
    assert!(command.status().unwrap().success(), "{run}");
    for on_cpu in record(step, &model.flags(run)).unwrap() {
        let on_gpu = Record::read(dir.path(), on_cpu.rank).unwrap();
        let what = format!("step {step}, {run}, {model:?} rank {}", on_cpu.rank);
        let worst = compare(&what, &on_cpu.tensors(), &on_gpu, bound);
        println!("{what}: largest relative error {worst:.1e}");
    }
}

#[test]
fn every_layout_of_2_4_and_8_ranks_computes_on_gpus_what_it_computes_on_the_cpu() {
    for layout in [1, 2, 4, 8].into_iter().flat_map(layouts) {
        let model = Model { tied: layout.dp == 1, layers: layout.pp.max(4), ..Model::default() };
        let run = format!("--global-batch 8 --micro-batch 1 {}", layout_flags(layout));
        // The sums of a matrix product are in another order there, and so are those over ranks.
        agree(6, model, &run, Bound::REORDERED);
    }
}

#[test]
fn every_step_does_so() {
    for (step, layout) in [
        (1, ""),
        (2, "--dp 4"),
        (2, "--dp 2 --dp-sync naive"),
        (3, "--dp 2 --tp 2"),
        (4, "--dp 1 --pp 2 --tp 2"),
        (5, "--dp 1 --pp 1 --cp 4 --tp 1"),
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
            // Products err by 2⁻⁹, and thirty updates let the paths drift apart.
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

/// NCCL is for talking to others.
#[test]
fn one_rank_needs_no_nccl() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["libtorch_cuda.so", "libcuda.so.1"] {
        symlink(Path::new(env!("STAND_IN")).join(name), dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("libnccl.so.2"), "").unwrap(); // what is found is no library
    let run = |layout: &str| {
        let run = format!("--device cuda --global-batch 8 --micro-batch 2 {layout}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_record"));
        command.arg("6").arg(dir.path()).args(Model::default().flags(&run));
        command.env("LD_LIBRARY_PATH", dir.path());
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (worked, error) = run("--dp 1 --pp 1 --cp 1 --tp 1");
    assert!(worked, "{error}");
    let (worked, error) = run("--dp 2 --pp 1 --cp 1 --tp 1");
    assert!(!worked && error.contains("NCCL cannot be loaded"), "{error}");
}

/// Under torchrun, srun or mpirun a rank gives itself what the processes launcher would have given it.
#[test]
fn ranks_that_others_start_have_the_settings_for_gpus_too() {
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let flags = Model::default().flags(
        "--device cuda --global-batch 8 --micro-batch 2 --dp 2 --pp 1 --cp 1 --tp 1 --launcher env",
    );
    let start = |rank: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_record"));
        command.arg("6").arg(dir.path()).args(&flags);
        command.env("RANK", rank.to_string()).env("LOCAL_RANK", rank.to_string());
        command.env("WORLD_SIZE", "2").env("MASTER_ADDR", "127.0.0.1");
        command.env("MASTER_PORT", port.to_string());
        on_stand_in(&mut command);
        command.spawn().unwrap()
    };
    for mut rank in [0, 1].map(start) {
        assert!(rank.wait().unwrap().success());
    }
}

#[test]
fn ranks_do_not_share_a_gpu_that_lets_in_one_process_alone() {
    let run = |dp: usize| {
        let dir = tempfile::tempdir().unwrap();
        let run = format!(
            "--device cuda --global-batch 8 --micro-batch 2 --dp {dp} --pp 1 --cp 1 --tp 1"
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_record"));
        command.arg("6").arg(dir.path()).args(Model::default().flags(&run));
        command.env("STAND_IN_EXCLUSIVE", "1");
        on_stand_in(&mut command);
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (worked, error) = run(2);
    assert!(worked, "a card each: {error}");
    let (worked, error) = run(4);
    assert!(!worked && error.contains("4 ranks would share 2 GPUs, but GPU 0 lets in"), "{error}");
}

#[test]
fn bf16_around_a_ring_is_refused_on_a_gpu_without_kernels_for_it() {
    let run = "--device cuda --dtype bf16 --dp 1 --pp 1 --cp 2 --tp 1 --steps 1";
    let mut command = Command::new(env!("CARGO_BIN_EXE_record"));
    command.args(["6", "/nowhere"]).args(run.split(' ')).env("STAND_IN_CAPABILITY", "7");
    on_stand_in(&mut command);
    let output = command.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("this one has 7.0"), "{error}");
}

/// Now and then a GPU has to be idle before it goes on: to give memory back, or to load a kernel that is new
/// to it. A receive under way keeps it busy, and must not be for the answer to what comes next.
#[test]
fn no_pass_waits_for_a_message_that_answers_it() {
    for (pp, micro_batches, schedule) in [(4, 1, "1f1b"), (4, 2, "1f1b"), (2, 4, "afab")] {
        let dir = tempfile::tempdir().unwrap();
        let run = format!(
            "--device cuda --global-batch {micro_batches} --micro-batch 1 --steps 2 --timeout 5 --dp 1 \
             --pp {pp} --cp 1 --tp 1 --schedule {schedule}"
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_record"));
        command.arg("6").arg(dir.path()).args(Model { layers: 4, ..Model::default() }.flags(&run));
        command.env("STAND_IN_ALLOCATES_IDLE", "1");
        on_stand_in(&mut command);
        assert!(command.status().unwrap().success(), "{run}");
    }
}

/// The host queues a step's work and goes on; it waits where it reads what the step reports. Only the
/// stand-in counts that, so it is taken here whether there is a GPU or not.
#[test]
fn a_step_waits_for_the_gpu_only_where_it_reads_loss_and_norm() {
    const RANKS: usize = 4;
    let waits = |steps: usize| {
        let dir = tempfile::tempdir().unwrap();
        let run = format!(
            "--device cuda --global-batch 8 --micro-batch 1 --dp 1 --pp 2 --cp 2 --tp 1 --steps {steps}"
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_record"));
        command.arg("6").arg(dir.path()).args(Model::default().flags(&run));
        command.env("STAND_IN_WAITS", "1");
        on_stand_in(&mut command);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        let waits = text.lines().filter(|line| line.starts_with("stand-in: the host waits"));
        let reads = waits.clone().filter(|line| line.ends_with("_local_scalar_dense")).count();
        // Afterwards the record of every step is written, a copy for each of its tensors.
        let records = (0..RANKS).map(|rank| Record::read(dir.path(), rank).unwrap());
        let written = records.flat_map(Tensors::into_keys).filter(|label| label.contains(" of "));
        (reads, waits.count() - written.count())
    };
    let ((reads, all), (more_reads, more)) = (waits(3), waits(5));
    assert_eq!(more_reads - reads, 2 * 2 * RANKS, "two numbers a step");
    assert_eq!(more - all, more_reads - reads, "and nothing else");
}
