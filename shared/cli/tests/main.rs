//! How a program ends: exit code, and one line on standard error. This test binary is
//! the program too.

use anyhow::{Context, bail};
use cli::Program;
use comm::Layout;
use libtest_mimic::{Arguments, Trial};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use tch::{Device, Kind, Tensor};

/// What the program is to do.
const ACT: &str = "FERROTRON_TEST_ACT";

/// Says so when it is, which a rank that is still computing would not survive.
struct TakenDown;

impl Drop for TakenDown {
    fn drop(&mut self) {
        eprintln!("what belongs to the thread of main was taken down");
    }
}

thread_local! {
    static TAKEN_DOWN: TakenDown = const { TakenDown };
}

fn run(act: &str) -> anyhow::Result<()> {
    let vector = |n| Tensor::zeros([n], (Kind::Float, Device::Cpu));
    match act {
        "finish" => Ok(()),
        "fail" => {
            TAKEN_DOWN.with(|_| ());
            bail!("no space left")
        }
        "break a line" => bail!("no space\nleft"),
        // As libtorch's errors come: from an operator, from a function, and where
        // memory is not enough.
        "panic" => panic!("{:?} has a sum", vector(2) + vector(3)),
        "throw" => vector(2).f_add(&vector(3)).map(drop).context("two vectors"),
        "allocate" => panic!("{:?} is there", vector(1 << 60)),
        _ => unreachable!("{act}"),
    }
}

/// The exit code and what stands on standard error.
fn end(act: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(args).env(ACT, act).env_remove("RUST_BACKTRACE");
    let output = program.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn ends() {
    assert_eq!(end("finish", &[]), (Some(0), String::new()));
    assert_eq!(end("fail", &[]), (Some(1), "error: no space left\n".into()));
    assert_eq!(
        end("finish", &["--seq-len", "0"]),
        (Some(2), "error: seq-len is 0, but must be at least 1\n".into())
    );
    // A file's name may have line breaks in it.
    assert_eq!(
        end("finish", &["--data", "no\nsuch.txt"]),
        (
            Some(2),
            "error: data no\\nsuch.txt cannot be read: No such file or directory (os error 2)\n"
                .into()
        )
    );
    // What is found out only where data are opened is refused as well, and no rank
    // has been started.
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("short.txt");
    std::fs::write(&text, "too short").unwrap();
    let (code, told) = end("finish", &["--data", text.to_str().unwrap()]);
    assert_eq!((code, told.lines().count()), (Some(2), 1), "{told}");
    assert!(told.contains("it has 9 tokens, but one sample of seq-len 128 needs 129"), "{told}");
    assert_eq!(end("break a line", &[]), (Some(1), "error: no space\\nleft\n".into()));
    let (code, text) = end("finish", &["--no-such-flag"]);
    assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
    assert!(text.contains("--no-such-flag"), "{text}");
}

/// All ranks of a launcher have the same mistake in their settings.
fn rank_0_is_first() {
    let start = |rank: &str| {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--seq-len", "0"]).env(ACT, "finish").env("RANK", rank);
        program.stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut other = start("1");
    let first = start("0").wait_with_output().unwrap();
    assert_eq!(first.status.code(), Some(2));
    std::thread::sleep(Duration::from_millis(500)); // in which a launcher ends the others
    assert!(other.try_wait().unwrap().is_none(), "the other rank had its say before it");
    // Where nobody ends it, it says so as well: the mistake may be its own.
    let other = other.wait_with_output().unwrap();
    assert_eq!((other.status.code(), other.stderr), (Some(2), first.stderr));
}

/// All ranks read the same files, and what is to be said of them is said once.
fn notes() {
    let dir = tempfile::tempdir().unwrap();
    let json = r#"{"vocab_size": 256, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "frobnicate": 1}"#;
    std::fs::write(dir.path().join("config.json"), json).unwrap();
    let (model, _) = checkpoint::LlamaConfig::from_hf_json(json).unwrap();
    let zeros = |shape: Vec<i64>| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let weights: Vec<_> = model.weights().map(|(name, shape)| (name, zeros(shape))).collect();
    Tensor::write_safetensors(&weights, dir.path().join("model.safetensors")).unwrap();
    let path = dir.path().to_str().unwrap();
    let said = |rank: Option<&str>| {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--hf-model", path, "--launcher", "threads"]).env(ACT, "finish");
        rank.map(|rank| program.env("RANK", rank));
        let output = program.output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    let note =
        format!("warning: {path}/config.json: ignored, for nothing is known of it: frobnicate\n");
    assert_eq!([None, Some("0"), Some("1")].map(said), [note.clone(), note, String::new()]);
}

fn libtorch() {
    for (act, start, part) in [
        ("panic", "error: the run panicked at ", "must match the size"),
        ("throw", "error: two vectors: ", "must match the size"),
        ("allocate", "error: the run panicked at ", "4611686018427387904 bytes"),
    ] {
        let (code, text) = end(act, &[]);
        assert_eq!((code, text.lines().count()), (Some(1), 1), "{text}");
        assert!(text.starts_with(start) && text.contains(part), "{text}");
        assert!(!text.contains("frame #"), "{text}");
    }
}

fn main() -> ExitCode {
    if let Ok(act) = std::env::var(ACT) {
        let program = Program { step: 1, about: "", layout: Layout::default() };
        return cli::main(program, step01::text::open, |_, _| run(&act));
    }
    let tests: [(&str, fn()); 4] = [
        ("exit_codes_and_sentences", ends),
        ("a_mistake_of_all_ranks_is_told_by_rank_0", rank_0_is_first),
        ("what_a_user_should_know_is_told_once", notes),
        ("libtorch_s_errors_are_one_sentence", libtorch),
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}
