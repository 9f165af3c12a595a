//! Files and directories: those that are not what they should be, and those that are in the way.

mod refused;

use insta::assert_snapshot;
use refused::{dir, refused, refused_by, steps};

#[test]
fn files_and_directories() {
    assert_snapshot!(refused(1, "--config DIR/no.toml"), @"config DIR/no.toml: cannot be read: No such file or directory (os error 2)");
    assert_snapshot!(refused(1, "--data DIR/no.txt"), @"data DIR/no.txt cannot be read: No such file or directory (os error 2)");
    assert_snapshot!(refused(1, "--data DIR"), @"data DIR is not a file");
    assert_snapshot!(refused(1, "--tokenizer DIR/no.json"), @"tokenizer DIR/no.json cannot be read: No such file or directory (os error 2)");
    assert_snapshot!(refused(1, "--tokenizer DIR/x.csv"), @"DIR/x.csv is not a tokenizer.json: EOF while parsing a value at line 1 column 0");
    assert_snapshot!(refused(1, "--hf-model DIR/no"), @"hf-model DIR/no: cannot read DIR/no/config.json: No such file or directory (os error 2)");
    assert_snapshot!(refused(1, "--hf-model DIR/hf"), @"hf-model DIR/hf has neither model.safetensors nor model.safetensors.index.json");
    assert_snapshot!(refused(1, "--metrics DIR/no/m.jsonl"), @"metrics DIR/no/m.jsonl: there is no directory DIR/no");
    assert_snapshot!(refused(1, "--metrics DIR"), @"metrics DIR is a directory, but must be a file");
    assert_snapshot!(refused(1, "--trace DIR/no/t.json"), @"trace DIR/no/t.json: there is no directory DIR/no");
    assert_snapshot!(refused(6, "--save DIR/x.csv"), @"save DIR/x.csv is not a directory");
    assert_snapshot!(refused(6, "--resume DIR/no"), @"resume DIR/no: it is not a directory");
    assert_snapshot!(refused(6, "--resume DIR"), @"resume DIR: DIR holds no complete checkpoint");
    assert_snapshot!(refused(6, "--eval-every 0"), @"eval-every is 0, but must be at least 1");
    assert_snapshot!(refused(6, "--eval-every 1 --eval-batches 0"), @"eval-batches is 0, but must be at least 1");
    assert_snapshot!(refused(5, "--eval-every 1"), @"--eval-every comes with step06: step05 has no such flag");
    assert_snapshot!(refused(6, "--eval-batches 2"), @"eval-batches is 2, but needs eval-every, which says when to use them");
    assert_snapshot!(refused(6, "--eval-data DIR/short.txt"), @"eval-data is DIR/short.txt, but needs eval-every, which says when to use it");
    assert_snapshot!(refused(6, "--eval-every 1 --eval-batches 9223372036854775807"), @"eval-batches is 9223372036854775807, but must be at most 262144: a global batch has 1024 tokens, and 268435456 fit in memory");
    assert_snapshot!(refused(6, "--eval-every 1 --data DIR/short.txt"), @"eval-every is 1, but with data it needs eval-data: the built-in tales say nothing about a model that learns from other text");
    assert_snapshot!(refused(6, "--export-hf DIR/x.csv"), @"export-hf DIR/x.csv is not a directory");
}

#[test]
fn a_directory_that_cannot_be_written_to() {
    assert_snapshot!(refused(6, "--save /dev/null/nope"), @"save /dev/null/nope cannot be written to: Not a directory (os error 20)");
    assert_snapshot!(refused(6, "--export-hf /dev/null/nope"), @"export-hf /dev/null/nope cannot be written to: Not a directory (os error 20)");
    assert_snapshot!(refused(6, "--save DIR/x.csv/ck"), @"save DIR/x.csv/ck cannot be written to: Not a directory (os error 20)");
}

#[test]
fn data_that_do_not_fit_the_vocabulary() {
    assert_snapshot!(refused(1, "--config DIR/big.toml --data DIR/x.bin"), @"data DIR/x.bin holds u16 tokens, but vocab_size is 100000 and u16 ends at 65535: use a .u32 file");
    assert_snapshot!(refused(1, "--config DIR/small.toml --data DIR/x.txt"), @"vocab_size is 200, but must be at least 256: text without a tokenizer is bytes");
    assert_snapshot!(refused(1, "--config DIR/small.toml --data DIR/x.bin --sample 9"), @"sample is 9, but tokens from a file need their tokenizer to become text: use --tokenizer, or --sample 0");
    assert_snapshot!(refused(1, "--data DIR/short.txt"), @"data file DIR/short.txt: it has 9 tokens, but one sample of seq-len 128 needs 129");
    assert_snapshot!(refused(1, "--data DIR/latin1.txt"), @"data file DIR/latin1.txt: it is not UTF-8 text: byte 0xe9 at position 3, line 1 (files of tokens end in .bin or .u32)");
    assert_snapshot!(refused(1, "--data DIR/odd.bin"), @"data file DIR/odd.bin: it has 3 bytes, but its tokens have 2 each, and one is cut off");
    assert_snapshot!(refused(1, "--data DIR/high.bin"), @"data file DIR/high.bin: token 263 at position 0 is outside the vocabulary of 256");
    // Held-out text is held to the same.
    let eval = "--data DIR/long.bin --eval-every 1 --eval-data";
    assert_snapshot!(refused(6, "--config DIR/big.toml --eval-every 1 --data DIR/long.txt --eval-data DIR/x.bin"), @"eval-data DIR/x.bin holds u16 tokens, but vocab_size is 100000 and u16 ends at 65535: use a .u32 file");
    assert_snapshot!(refused(6, &format!("{eval} DIR/high.bin")), @"data file DIR/high.bin: token 263 at position 0 is outside the vocabulary of 256");
    assert_snapshot!(refused(6, &format!("--config DIR/bpe.toml {eval} DIR/long.txt")), @"eval-data DIR/long.txt is text, but data are tokens: it needs their tokenizer to become tokens of the same kind");
    assert_snapshot!(refused(1, "--prompt ''"), @"prompt is empty, but a sample of 200 tokens has to begin with something");
}

#[test]
fn files_that_cannot_be_written_are_found_out_before_the_run() {
    if cfg!(target_os = "linux") {
        assert_snapshot!(refused(1, "--metrics /proc/m.jsonl"), @"metrics /proc/m.jsonl cannot be written: No such file or directory (os error 2)");
        assert_snapshot!(refused(1, "--trace /proc/t.json"), @"trace /proc/t.json cannot be written: No such file or directory (os error 2)");
    }
    assert_snapshot!(refused(1, "--metrics DIR/no/"), @"metrics DIR/no/ cannot be written: Is a directory (os error 21)");
    let dir = dir();
    std::fs::create_dir(dir.path().join("t.svg")).unwrap();
    let refused = |args| refused_by(1, args, &[], dir.path());
    assert_snapshot!(refused("--trace DIR/t.json"), @"the trace's chart DIR/t.svg is a directory, but must be a file");
    assert_snapshot!(refused("--trace DIR/u.svg"), @"trace DIR/u.svg has the name of the chart that is drawn beside it: name it DIR/u.json");
    // What is there stays, and what is not there is not made; what is no file is
    // left to its reader.
    let path = dir.path().to_str().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (metrics, trace) in [("short.txt", "new.json"), ("pipe", "pipe")] {
        let args = format!("--metrics {path}/{metrics} --trace {path}/{trace}");
        steps::parse(&steps::program(1), args.split(' '), |_| None).unwrap();
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("short.txt")).unwrap(), "too short");
    assert!(!dir.path().join("new.json").exists());
}

#[test]
fn a_run_does_not_write_over_what_it_reads_or_writes() {
    assert_snapshot!(refused(1, "--data DIR/long.bin --metrics DIR/long.bin"), @"metrics DIR/long.bin would overwrite data: name another file");
    assert_snapshot!(refused(6, "--eval-every 1 --eval-data DIR/long.txt --metrics DIR/long.txt"), @"metrics DIR/long.txt would overwrite eval-data: name another file");
    assert_snapshot!(refused(1, "--tokenizer DIR/long.txt --metrics DIR/long.txt"), @"metrics DIR/long.txt would overwrite tokenizer: name another file");
    assert_snapshot!(refused(1, "--config DIR/fast.toml --trace DIR/hf/../fast.toml"), @"trace DIR/hf/../fast.toml would overwrite config: name another file");
    assert_snapshot!(refused(1, "--metrics DIR/m --trace DIR/m"), @"trace DIR/m would overwrite metrics: name another file");
    assert_snapshot!(refused(1, "--metrics DIR/m.svg --trace DIR/m.json"), @"the trace's chart DIR/m.svg would overwrite metrics: name another file");
    assert_snapshot!(refused(6, "--metrics DIR/m --save DIR/m"), @"metrics DIR/m would overwrite save: name another file");
    assert_snapshot!(refused(6, "--metrics DIR/m --export-hf DIR/m"), @"metrics DIR/m would overwrite export-hf: name another file");
    let dir = dir();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("long.txt", link).unwrap();
    assert_snapshot!(refused_by(1, "--data DIR/long.txt --metrics DIR/link", &[], dir.path()), @"metrics DIR/link would overwrite data: name another file");
}

#[test]
fn a_configuration_that_can_be_read_only_once() {
    let dir = dir();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let refused = |args: &str| {
        let pipe = pipe.clone();
        let writer = std::thread::spawn(move || std::fs::write(pipe, "[train]\nsteps = 7"));
        let sentence = refused_by(2, args, &[], dir.path());
        writer.join().unwrap().unwrap();
        sentence
    };
    assert_snapshot!(refused("--config DIR/pipe --launcher processes --dp 2"), @"config DIR/pipe is not a regular file and can be read only once, but every process reads it: save it to a file");
    assert_snapshot!(refused("--config DIR/pipe --seq-len 0"), @"seq-len is 0, but must be at least 1");
}

#[test]
fn a_prompt_of_no_tokens() {
    let dir = dir();
    let words = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
        "decoder": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"a": 0, "?": 1}, "unk_token": "?"}}"#;
    std::fs::write(dir.path().join("words.json"), words).unwrap();
    assert_snapshot!(refused_by(1, "--tokenizer DIR/words.json --prompt \t", &[], dir.path()), @r#"prompt is "\t", but the tokenizer makes no token of it, and a sample of 200 tokens has to begin with something"#);
}
