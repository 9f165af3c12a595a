//! What only the stand-in for a GPU can be made to do: lack a library, be too old, count the host's
//! waits. It is taken here whether there is a GPU or not.
#![cfg(target_os = "linux")] // CUDA, and what takes its place here, are for Linux

mod common;

use common::{Model, on_stand_in};
use parity::{Record, Tensors};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Whether step06 trained on the stand-in under these flags, with this in its environment; and what
/// it printed as errors.
fn trained(flags: &[String], (name, value): (&str, &str)) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_record"));
    command.arg("6").arg(dir.path()).args(flags);
    on_stand_in(&mut command);
    let output = command.env(name, value).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
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
        let folder = ("LD_LIBRARY_PATH", dir.path().to_str().unwrap());
        trained(&Model::default().flags(&run), folder)
    };
    let (worked, error) = run("--dp 1 --pp 1 --cp 1 --tp 1");
    assert!(worked, "{error}");
    let (worked, error) = run("--dp 2 --pp 1 --cp 1 --tp 1");
    assert!(!worked && error.contains("NCCL cannot be loaded"), "{error}");
}

/// NCCL refuses two ranks on one GPU where there is one for each.
#[test]
fn ranks_get_a_gpu_each_also_where_the_launcher_is_named() {
    let run = "--device cuda --global-batch 8 --micro-batch 2 --dp 2 --pp 1 --cp 1 --tp 1";
    let by_flag = Model::default().flags(&format!("{run} --launcher processes"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.toml");
    let text = std::fs::read_to_string(Model::default().file()).unwrap(); // ends with [run]
    std::fs::write(&file, text + "launcher = \"processes\"\n").unwrap();
    let mut by_file = Model::default().flags(run);
    by_file[1] = file.display().to_string();
    for flags in [by_flag, by_file] {
        let (worked, error) = trained(&flags, ("RUST_BACKTRACE", "0"));
        assert!(worked, "{flags:?}: {error}");
    }
}

/// Under torchrun, srun or mpirun a rank gives itself what the processes launcher
/// would have given it.
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
        let run = format!(
            "--device cuda --global-batch 8 --micro-batch 2 --dp {dp} --pp 1 --cp 1 --tp 1"
        );
        trained(&Model::default().flags(&run), ("STAND_IN_EXCLUSIVE", "1"))
    };
    let (worked, error) = run(2);
    assert!(worked, "a card each: {error}");
    let (worked, error) = run(4);
    assert!(
        !worked && error.contains("4 ranks would share 2 GPUs, but GPU 0 admits only one process"),
        "{error}"
    );
}

#[test]
fn a_gpu_or_a_driver_that_is_too_old_is_refused_by_name() {
    let ring = "dtype is bf16 and cp 2, which needs a GPU of compute capability 8.0 or more (Ampere), but this one \
                has 7.5: use --dtype f32 or --cp 1";
    let card = "GPU 0 (NVIDIA H100 80GB HBM3) has compute capability 7.0, and CUDA 13 has no kernels below 7.5 \
                (Turing): use --device cpu, or another GPU";
    let driver = "device is cuda, but the driver is for CUDA 12.4, and this libtorch needs 13.0: use --device cpu, \
                  or update the driver (CUDA 13 needs 580 or newer)";
    for (name, value, cp, told) in [
        ("STAND_IN_CAPABILITY", "7.5", 2, ring),
        ("STAND_IN_CAPABILITY", "7.0", 1, card),
        ("STAND_IN_DRIVER", "12040", 1, driver),
    ] {
        let run = format!("--device cuda --dtype bf16 --dp 1 --pp 1 --cp {cp} --tp 1 --steps 1");
        let flags: Vec<String> = run.split(' ').map(str::to_owned).collect();
        let (worked, error) = trained(&flags, (name, value));
        assert!(!worked);
        assert_eq!(error.lines().next(), Some(&*format!("Error: {told}")));
    }
}

/// What NCCL is told to do later, an event would miss.
#[test]
fn nccl_that_does_not_wait_is_refused() {
    let run = "--device cuda --global-batch 8 --micro-batch 2 --dp 2 --pp 1 --cp 1 --tp 1";
    let (worked, error) = trained(&Model::default().flags(run), ("NCCL_COMM_BLOCKING", "0"));
    assert!(!worked && error.contains("NCCL_COMM_BLOCKING"), "{error}");
}

/// Now and then a GPU has to be idle before it goes on: to give memory back, or to load a
/// kernel that is new to it. A message under way keeps it busy, and must not be for the answer
/// to what comes next.
#[test]
fn no_pass_waits_for_a_message_that_answers_it() {
    for (micro_batches, layout) in [
        (1, "--pp 4 --cp 1 --schedule 1f1b"),
        (2, "--pp 4 --cp 1 --schedule 1f1b"),
        (5, "--pp 2 --cp 1 --schedule 1f1b"),
        (9, "--pp 4 --cp 1 --schedule 1f1b"),
        (4, "--pp 2 --cp 1 --schedule afab"),
        (1, "--pp 1 --cp 4"),
        (3, "--pp 2 --cp 2"),
    ] {
        let run = format!(
            "--device cuda --global-batch {micro_batches} --micro-batch 1 --steps 2 --timeout 5 --dp 1 --tp 1 {layout}"
        );
        let flags = Model { layers: 4, ..Model::default() }.flags(&run);
        let (worked, error) = trained(&flags, ("STAND_IN_ALLOCATES_IDLE", "1"));
        assert!(worked, "{run}: {error}");
    }
}

/// The host queues a step's work and goes on; it waits where it reads what the step reports.
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
