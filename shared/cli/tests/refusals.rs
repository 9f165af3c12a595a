//! Every refusal is one sentence that names the setting, its value and what would do.

mod refused;

use insta::assert_snapshot;
use refused::{dir, file_refused, refused, refused_by};

#[test]
fn a_flag_that_is_not_one() {
    assert_snapshot!(refused(1, "--stepz 5"), @"unknown flag --stepz: did you mean --steps?");
    assert_snapshot!(refused(1, "--quux"), @"unknown flag --quux: step01 --help lists them all");
    assert_snapshot!(refused(1, "--quux=3"), @"unknown flag --quux: step01 --help lists them all");
    assert_snapshot!(refused(1, "train"), @r#"unexpected argument "train": settings are flags, such as --steps 10"#);
    assert_snapshot!(refused(1, "--steps"), @"--steps needs a value");
    assert_snapshot!(refused(1, "--shuffle true"), @r#"unexpected argument "true": settings are flags, such as --steps 10"#);
    assert_snapshot!(refused(2, "--dp-syn naive"), @"unknown flag --dp-syn: did you mean --dp-sync?");
}

#[test]
fn a_flag_that_is_a_program_of_its_own() {
    assert_snapshot!(refused(1, "--tokenize a.txt b.jsonl --out tokens.bin --tokenizer DIR"), @"--tokenize is a program of its own: cargo run -p tokenize -- a.txt b.jsonl --out tokens.bin --tokenizer DIR");
    assert_snapshot!(refused(6, "--tokenize a.txt b.jsonl --out tokens.bin --tokenizer DIR"), @"--tokenize is a program of its own: cargo run -p tokenize -- a.txt b.jsonl --out tokens.bin --tokenizer DIR");
}

#[test]
fn a_sample_that_cannot_be_drawn() {
    assert_snapshot!(refused(1, "--temperature -1"), @"temperature is -1.0, but must be from 0.001 to 1000, or 0, which draws the likeliest token");
    assert_snapshot!(refused(1, "--temperature 1e-4"), @"temperature is 0.0001, but must be from 0.001 to 1000, or 0, which draws the likeliest token");
    assert_snapshot!(refused(1, "--temperature inf"), @"temperature is inf, but must be finite");
    assert_snapshot!(refused(1, "--top-k 0"), @"top-k is 0, but must be at least 1: leave it out to draw among all tokens");
}

#[test]
fn what_a_run_says_and_draws_where_it_cannot() {
    assert_snapshot!(refused(1, "--log-every 0"), @"log-every is 0, but must be at least 1");
    let dir = dir();
    let refused = |args: &str| refused_by(1, args, &[], dir.path());
    assert_snapshot!(refused("--plot DIR"), @"plot DIR is a directory, but must be a file");
    assert_snapshot!(refused("--plot DIR/no/loss.svg"), @"plot DIR/no/loss.svg: there is no directory DIR/no");
    assert_snapshot!(refused("--plot DIR/same --metrics DIR/same"), @"plot DIR/same would overwrite metrics: name another file");
    std::fs::write(dir.path().join("file"), "").unwrap();
    let before = std::fs::read_dir(dir.path()).unwrap().count();
    assert_snapshot!(refused("--tensorboard DIR/file"), @"tensorboard DIR/file is not a directory");
    assert_snapshot!(refused("--tensorboard DIR/file/events"), @"tensorboard DIR/file/events cannot be written to: Not a directory (os error 20)");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before, "nothing is made");
}

#[test]
fn activations_that_cannot_be_shared_out_or_computed_again() {
    assert_snapshot!(refused(7, "--tp 4 --cp 2 --seq-len 12"), @"seq-len is 12, but with sequence-parallel it must be a multiple of 8: cp 2 (zigzag) and tp 4 cut a sequence into parts of equal length");
    assert_snapshot!(refused(7, "--tp 4 --seq-len 6 --dp 1"), @"seq-len is 6, but with sequence-parallel it must be a multiple of 4: cp 1 (zigzag) and tp 4 cut a sequence into parts of equal length");
    assert_snapshot!(refused(7, "--tp 4 --cp 2 --seq-len 20 --cp-layout contiguous"), @"seq-len is 20, but with sequence-parallel it must be a multiple of 8: cp 2 (contiguous) and tp 4 cut a sequence into parts of equal length");
    assert_snapshot!(refused(7, "--tp 3 --cp 2 --seq-len 20 --config DIR/three.toml"), @"seq-len is 20, but with sequence-parallel it must be a multiple of 12: cp 2 (zigzag) and tp 3 cut a sequence into parts of equal length");
    assert_snapshot!(refused(7, "--memory DIR"), @"memory DIR is a directory, but must be a file");
    assert_snapshot!(refused(7, "--memory DIR/m.json"), @"memory DIR/m.json has the name of the data that are written beside it: name it DIR/m.svg");
    assert_snapshot!(refused(7, "--memory DIR/m.svg --metrics DIR/m.json"), @"the data of memory DIR/m.json would overwrite metrics: name another file");
    assert_snapshot!(refused(7, "--memory DIR/m.svg --dry-run --device cuda"), @"memory is DIR/m.svg, but device is cuda: what ranks hold is recorded on a CPU alone");
    assert_snapshot!(refused(7, "--sequence-parallel=maybe"), @"--sequence-parallel is maybe, but must be true or false");
    assert_snapshot!(refused(7, "--sequence-parallel true"), @r#"unexpected argument "true": settings are flags, such as --steps 10"#);
    assert_snapshot!(refused(7, "--recompute all"), @"--recompute is all, but must be none, elementwise or layer");
    assert_snapshot!(refused(7, "--sp-gather thrice"), @"--sp-gather is thrice, but must be once or twice");
    assert_snapshot!(file_refused("[parallel]\nrecompute = 'layer'"), @r#"config DIR/run.toml: [parallel] recompute is "layer", but recompute comes with step07 and this is step01"#);
}

#[test]
fn a_value_that_begins_with_a_hyphen() {
    assert_snapshot!(refused(1, "--prompt --steps 3"), @"--prompt needs a value");
    assert_snapshot!(refused(1, "--prompt -h"), @"--prompt needs a value");
    assert_snapshot!(refused(1, "--prompt --stepz"), @"unknown flag --stepz: if it is the value of --prompt, write --prompt=--stepz");
    assert_snapshot!(refused(1, "--data --stepz=4"), @"unknown flag --stepz=4: if it is the value of --data, write --data=--stepz=4");
    assert_snapshot!(refused(1, "--config -x.toml"), @"config -x.toml: cannot be read: No such file or directory (os error 2)");
    assert_snapshot!(refused(1, "--data -x.txt"), @"data -x.txt cannot be read: No such file or directory (os error 2)");
    assert_snapshot!(refused(1, "--lr --stepz 3"), @"unknown flag --stepz: did you mean --steps?");
    assert_snapshot!(refused(1, "--lr -inf"), @"lr is -inf, but must be finite");
    assert_snapshot!(refused(1, "--lr -.5"), @"lr is -0.5, but must be above 0");
    assert_snapshot!(refused(1, "--clip -1e-3"), @"clip is -0.001, but must not be negative");
    assert_snapshot!(refused(1, "--seed -1"), @"--seed is -1, but must not be negative");
    assert_snapshot!(refused(1, "--warmup -0.5"), @"--warmup is -0.5, but must be a whole number");
    assert_snapshot!(refused(1, "--dtype -f32"), @"--dtype is -f32, but must be f32, f64 or bf16");
    assert_snapshot!(refused(1, "--steps -many"), @"--steps is -many, but must be a whole number");
    assert_snapshot!(refused(1, "--threads-per-rank -2"), @"--threads-per-rank is -2, but must not be negative");
    assert_snapshot!(refused(1, "-3"), @r#"unexpected argument "-3": settings are flags, such as --steps 10"#);
    assert_snapshot!(refused(1, "--shuffle -1"), @r#"unexpected argument "-1": settings are flags, such as --steps 10"#);
}

#[test]
fn a_flag_that_comes_with_a_later_step() {
    assert_snapshot!(refused(1, "--dp 2"), @"--dp comes with step02: step01 has no such flag");
    assert_snapshot!(refused(1, "--dp-sync naive"), @"--dp-sync comes with step02: step01 has no such flag");
    assert_snapshot!(refused(2, "--tp 2"), @"--tp comes with step03: step02 has no such flag");
    assert_snapshot!(refused(3, "--pp 2"), @"--pp comes with step04: step03 has no such flag");
    assert_snapshot!(refused(3, "--schedule afab"), @"--schedule comes with step04: step03 has no such flag");
    assert_snapshot!(refused(4, "--cp 2"), @"--cp comes with step05: step04 has no such flag");
    assert_snapshot!(refused(5, "--dry-run"), @"--dry-run comes with step06: step05 has no such flag");
    assert_snapshot!(refused(5, "--save DIR"), @"--save comes with step06: step05 has no such flag");
    assert_snapshot!(refused(6, "--sequence-parallel"), @"--sequence-parallel comes with step07: step06 has no such flag");
    assert_snapshot!(refused(6, "--recompute layer"), @"--recompute comes with step07: step06 has no such flag");
}

#[test]
fn a_value_of_the_wrong_kind() {
    assert_snapshot!(refused(1, "--steps many"), @"--steps is many, but must be a whole number");
    assert_snapshot!(refused(1, "--steps -3"), @"--steps is -3, but must not be negative");
    assert_snapshot!(refused(1, "--steps 1.5"), @"--steps is 1.5, but must be a whole number");
    assert_snapshot!(refused(1, "--steps 99999999999999999999"), @"--steps is 99999999999999999999, but must be at most 9223372036854775807");
    assert_snapshot!(refused(1, "--seed 18446744073709551615"), @"--seed is 18446744073709551615, but must be at most 9223372036854775807");
    assert_snapshot!(refused(1, "--lr fast"), @"--lr is fast, but must be a number");
    assert_snapshot!(refused(1, "--shuffle=maybe"), @"--shuffle is maybe, but must be true or false");
    assert_snapshot!(refused(1, "--data ''"), @r#"--data is "", but must not be empty"#);
    assert_snapshot!(refused(4, "--schedule gpipe"), @"--schedule is gpipe, but must be 1f1b or afab");
    assert_snapshot!(refused(5, "--cp-layout ring"), @"--cp-layout is ring, but must be zigzag or contiguous");
    assert_snapshot!(refused(2, "--dp-sync quick"), @"--dp-sync is quick, but must be naive or bucketed");
    assert_snapshot!(refused(1, "--device gpu"), @"--device is gpu, but must be cpu or cuda");
    assert_snapshot!(refused(6, "--gpu h300"), @"--gpu is h300, but must be h100, h200 or a100");
    assert_snapshot!(refused(5, "--gpu h100"), @"--gpu comes with step06: step05 has no such flag");
    assert_snapshot!(refused(1, "--dtype f16"), @"--dtype is f16, but must be f32, f64 or bf16");
    assert_snapshot!(refused(1, "--launcher mpi"), @"--launcher is mpi, but must be threads, processes or env");
}

#[test]
fn numbers_out_of_range() {
    assert_snapshot!(refused(1, "--seq-len 0"), @"seq-len is 0, but must be at least 1");
    assert_snapshot!(refused(1, "--micro-batch 0"), @"micro-batch is 0, but must be at least 1");
    assert_snapshot!(refused(1, "--global-batch 0"), @"global-batch is 0, but must be at least 1");
    assert_snapshot!(refused(1, "--lr 0"), @"lr is 0.0, but must be above 0");
    assert_snapshot!(refused(1, "--lr -0.001"), @"lr is -0.001, but must be above 0");
    assert_snapshot!(refused(1, "--lr --steps 3"), @"--lr needs a value");
    assert_snapshot!(refused(1, "--lr nan"), @"lr is NaN, but must be finite");
    assert_snapshot!(refused(1, "--lr inf"), @"lr is inf, but must be finite");
    assert_snapshot!(refused(1, "--min-lr 1"), @"min-lr is 1.0, but must not exceed lr 0.003");
    assert_snapshot!(refused(1, "--min-lr -1"), @"min-lr is -1.0, but must not be negative");
    assert_snapshot!(refused(1, "--steps 5 --warmup 7"), @"warmup is 7, but must not exceed steps 5");
    assert_snapshot!(file_refused("[train]\nsteps = 5\nwarmup = 7"), @"warmup is 7, but must not exceed steps 5");
    assert_snapshot!(refused(1, "--config DIR/fast.toml --warmup 301"), @"warmup is 301, but must not exceed steps 300");
    assert_snapshot!(refused(1, "--weight-decay -0.1"), @"weight-decay is -0.1, but must not be negative");
    assert_snapshot!(refused(1, "--clip -1"), @"clip is -1.0, but must not be negative");
    assert_snapshot!(refused(1, "--clip NaN"), @"clip is NaN, but must be finite");
    assert_snapshot!(refused(1, "--timeout 0"), @"timeout is 0.0, but must be from 0.001 to 1e9 seconds");
    assert_snapshot!(refused(1, "--timeout 1e300"), @"timeout is 1e300, but must be from 0.001 to 1e9 seconds");
    assert_snapshot!(refused(1, "--timeout 1e-12"), @"timeout is 1e-12, but must be from 0.001 to 1e9 seconds");
    assert_snapshot!(refused(1, "--threads-per-rank 0"), @"threads-per-rank is 0, but a rank needs at least 1");
    let cores = std::thread::available_parallelism().unwrap();
    let expected = format!(
        "threads-per-rank is 1000, but must be at most the number of this machine's cores, {cores}"
    );
    assert_eq!(refused(1, "--threads-per-rank 1000"), expected);
    assert_snapshot!(refused(2, "--bucket-mb 0"), @"bucket-mb is 0.0, but must be above 0");
    assert_snapshot!(refused(1, "--seq-len 4096"), @"seq-len is 4096, but must not exceed max_position_embeddings 2048");
    assert_snapshot!(refused(1, "--global-batch 9223372036854775806"), @"steps is 300 and global-batch 9223372036854775806, but their product must be at most 144115188075855871 with seq-len 128");
    assert_snapshot!(refused(1, "--global-batch 72057594037927936 --steps 1"), @"global-batch is 72057594037927936, but must be at most 2097152 with seq-len 128 and dp 1: a replica reads its share at once, and 268435456 tokens fit in memory");
    assert_snapshot!(refused(2, "--global-batch 8388608 --dp 2 --micro-batch 4194304"), @"global-batch is 8388608, but must be at most 4194304 with seq-len 128 and dp 2: a replica reads its share at once, and 268435456 tokens fit in memory");
    assert_snapshot!(refused(1, "--steps 9223372036854775807"), @"steps is 9223372036854775807 and global-batch 8, but their product must be at most 144115188075855871 with seq-len 128");
    assert_snapshot!(refused(6, "--save-every 0"), @"save-every is 0, but must be at least 1");
    assert_snapshot!(refused(6, "--save-every 5"), @"save-every is 5, but needs save, which says where to");
    assert_snapshot!(refused(6, "--save-keep 0"), @"save-keep is 0, but must be at least 1");
    assert_snapshot!(refused(6, "--save-keep 2"), @"save-keep is 2, but needs save, which says where to");
}

#[test]
fn an_impossible_layout() {
    assert_snapshot!(refused(1, "--global-batch 15"), @"global-batch is 15, but must be a multiple of micro-batch 2 × dp 1 = 2");
    assert_snapshot!(refused(2, "--dp 3"), @"global-batch is 8, but must be a multiple of micro-batch 2 × dp 3 = 6");
    assert_snapshot!(refused(2, "--dp 0"), @"dp is 0, but must be at least 1");
    assert_snapshot!(refused(3, "--tp 0"), @"tp is 0, but must be at least 1");
    assert_snapshot!(refused(3, "--tp 3"), @"tp is 3, but must divide num_attention_heads 8");
    assert_snapshot!(refused(3, "--tp 8"), @"tp is 8, but must divide num_key_value_heads 4");
    assert_snapshot!(refused(4, "--pp 5"), @"pp is 5, but must be at most num_hidden_layers 4: every stage needs a layer");
    assert_snapshot!(refused(5, "--cp 3"), @"cp is 3, but zigzag cuts a sequence into 6 pieces, which must divide seq-len 128");
    assert_snapshot!(refused(5, "--cp 3 --cp-layout contiguous"), @"cp is 3, but contiguous cuts a sequence into 3 pieces, which must divide seq-len 128");
    assert_snapshot!(refused(2, "--dp 512 --global-batch 1024"), @"dp 512 · pp 1 · cp 1 · tp 1 takes 512 ranks, but one host starts at most 256: spread them over hosts with --launcher env");
    assert_snapshot!(refused(6, "--dp 4294967296 --pp 4294967296 --global-batch 4294967296 --micro-batch 1"), @"dp 4294967296 · pp 4294967296 · cp 2 · tp 2 makes more ranks than can be counted");
    assert_snapshot!(refused(6, "--dry-run --dp 4194304 --global-batch 8388608"), @"dp 4194304 · pp 2 · cp 2 · tp 2 takes 33554432 ranks, but no cluster has more than 1048576");
}

#[test]
fn an_impossible_architecture() {
    let wide = "[model]\nhidden_size = 2\nnum_attention_heads = 1048576\nhead_dim = 1048576\n\
                num_key_value_heads = 1\nmax_position_embeddings = 1048576\n[data]\nseq-len = 1048576";
    assert_snapshot!(file_refused(wide), @"seq-len is 1048576, but must be at most 1024 with 1048576 heads of head_dim 1048576");
    assert_snapshot!(file_refused("[model]\nhidden_size = 0"), @"hidden_size is 0, but must be at least 1");
    assert_snapshot!(file_refused("[model]\nnum_hidden_layers = -1"), @"config DIR/run.toml: [model] num_hidden_layers is -1, but must not be negative");
    assert_snapshot!(file_refused("[model]\nhidden_size = 100"), @"num_attention_heads is 8, but must divide hidden_size 100 unless head_dim is given");
    assert_snapshot!(file_refused("[model]\nnum_key_value_heads = 3"), @"num_key_value_heads is 3, but must divide num_attention_heads 8");
    assert_snapshot!(file_refused("[model]\nnum_attention_heads = 7"), @"num_attention_heads is 7, but must divide hidden_size 128 unless head_dim is given");
    assert_snapshot!(file_refused("[model]\nhead_dim = 15"), @"head_dim is 15, but rotary embeddings turn pairs of numbers: it must be even");
    assert_snapshot!(file_refused("[model]\nvocab_size = 99999999999"), @"vocab_size is 99999999999, but no model has more than 1073741824");
    assert_snapshot!(file_refused("[model]\nnum_hidden_layers = 1073741824\nhidden_size = 8\nhead_dim = 2"), @"num_hidden_layers is 1073741824, but no model has more than 65536");
    assert_snapshot!(file_refused("[model]\nhead_dim = 4611686018427387904"), @"head_dim is 4611686018427387904, but no model has more than 1073741824");
    assert_snapshot!(file_refused("[model]\nhidden_size = 1073741824\nhead_dim = 1073741824"), @"hidden_size 1073741824, intermediate_size 384, head_dim 1073741824 and num_hidden_layers 4 make 1e20 parameters, but no model has more than 1e15");
    assert_snapshot!(file_refused("[model]\nvocab_size = 200"), @"vocab_size is 200, but must be at least 256: text without a tokenizer is bytes");
    assert_snapshot!(file_refused("[model]\nrms_norm_eps = 0"), @"rms_norm_eps is 0.0, but must be above 0");
    assert_snapshot!(file_refused("[model]\nrope_theta = -1"), @"rope_theta is -1.0, but must be above 0");
    assert_snapshot!(file_refused("[model]\ntie_word_embeddings = 1"), @"config DIR/run.toml: [model] tie_word_embeddings is 1, but must be true or false");
    assert_snapshot!(file_refused("[model]\nrope_scaling = 2"), @"config DIR/run.toml: [model] rope_scaling is 2, but must be a table");
    assert_snapshot!(file_refused("[model]\nrope_scaling = { factor = 8 }"), @"config DIR/run.toml: [model] rope_scaling is { factor = 8 }, but that is not valid: missing field `low_freq_factor`");
    assert_snapshot!(file_refused("[model]\nrope_scaling = { factor = 8, low_freq_factor = 4, high_freq_factor = 4, original_max_position_embeddings = 64 }"), @"rope_scaling low_freq_factor is 4.0, but must be below high_freq_factor 4.0");
    assert_snapshot!(file_refused("[model]\nmax_position_embeddings = 64"), @"seq-len is 128, but must not exceed max_position_embeddings 64");
    assert_snapshot!(file_refused("[model]\nhf-model = 'x'\nhidden_size = 64"), @"config DIR/run.toml: [model] has both hf-model and hidden_size; hf-model gives the whole architecture");
}

#[test]
fn a_configuration_file_with_a_fault() {
    assert_snapshot!(file_refused("[train]\nstepz = 3"), @"config DIR/run.toml: unknown key stepz in [train]: did you mean steps?");
    assert_snapshot!(file_refused("[trian]\nsteps = 3"), @"config DIR/run.toml: unknown table [trian]: did you mean train?");
    assert_snapshot!(file_refused("steps = 3"), @"config DIR/run.toml: steps is outside any table, but belongs in [train]");
    assert_snapshot!(file_refused("train = 3"), @"config DIR/run.toml: train is 3, but must be a table: write [train], and its keys below it");
    assert_snapshot!(file_refused("[train]\nsteps = 99999999999999999999"), @"config DIR/run.toml: line 2 has 99999999999999999999, but a whole number must be at most 9223372036854775807");
    assert_snapshot!(file_refused("\"a\\nb\" = 3"), @r#"config DIR/run.toml: unknown key "a\nb""#);
    assert_snapshot!(file_refused("[train]\n\"a\\nb\" = 3"), @r#"config DIR/run.toml: unknown key "a\nb" in [train]"#);
    assert_snapshot!(file_refused("[\"a\\nb\"]"), @r#"config DIR/run.toml: unknown table ["a\nb"]"#);
    assert_snapshot!(file_refused("stride = 3"), @"config DIR/run.toml: unknown key stride");
    assert_snapshot!(file_refused("[data]\nsteps = 3"), @"config DIR/run.toml: steps belongs in [train], not in [data]");
    assert_snapshot!(file_refused("[train]\nsteps = '3'"), @r#"config DIR/run.toml: [train] steps is "3", but must be a whole number"#);
    assert_snapshot!(file_refused("[train]\nsteps = 3\nsteps = 4"), @"config DIR/run.toml: line 3 is not TOML: duplicate key");
    assert_snapshot!(file_refused("[train\nsteps = 3"), @"config DIR/run.toml: line 1 is not TOML: unclosed table, expected `]`");
    assert_snapshot!(file_refused("[parallel]\ntp = 2"), @"config DIR/run.toml: [parallel] tp is 2, but tp comes with step03 and this is step01");
    assert_snapshot!(file_refused("[parallel]\nschedule = 'afab'"), @r#"config DIR/run.toml: [parallel] schedule is "afab", but schedule comes with step04 and this is step01"#);
    assert_snapshot!(file_refused("[run]\nsave = 'x'"), @r#"config DIR/run.toml: [run] save is "x", but save comes with step06 and this is step01"#);
    assert_snapshot!(file_refused("[model]\nhidden-size = 64"), @"config DIR/run.toml: unknown key hidden-size in [model]: did you mean hidden_size?");
}

#[test]
fn devices_and_launchers() {
    if gpu::load().is_err_and(|why| !why.is::<gpu::OldDriver>()) {
        // In the middle stands why: another library is missing on every machine.
        let text = refused(1, "--device cuda");
        let (start, end) = (
            "device is cuda, but ",
            "use --device cpu; where nvidia-smi shows a GPU, run `make setup CUDA=1`",
        );
        assert!(text.starts_with(start) && text.ends_with(end) && !text.contains('\n'), "{text}");
    }
    assert_snapshot!(refused(2, "--device cuda --launcher threads --dp 2"), @"launcher is threads, but on cuda each of 2 ranks is a process: use --launcher processes");
    let world = [
        ("RANK", "0"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", "29500"),
        ("LOCAL_RANK", "one"),
    ];
    assert_snapshot!(refused_by(2, "--device cuda --dp 2", &world, dir().path()), @r#"LOCAL_RANK is "one", but must be a whole number in its range"#);
    assert_snapshot!(refused(1, "--launcher env"), @"RANK is not set: --launcher env takes RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT");
    assert_snapshot!(refused_by(2, "--dp 2", &[("RANK", "0"), ("WORLD_SIZE", "2")], dir().path()), @"MASTER_ADDR is not set: --launcher env takes RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT");
    assert_snapshot!(refused_by(2, "--dp 2", &[("RANK", "0"), ("WORLD_SIZE", "3"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")], dir().path()), @"WORLD_SIZE is 3, but dp 2 · pp 1 · cp 1 · tp 1 takes 2 ranks");
    assert_snapshot!(refused_by(2, "--dp 2", &[("RANK", "5"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")], dir().path()), @"RANK is 5, but WORLD_SIZE is 2; ranks count from 0");
}
