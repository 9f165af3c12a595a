//! step06 --dry-run: what it says of a run is what the run does.

mod common;

use cli::Gpu;
use comm::{Coords, Mesh};
use common::{Model, Span, layout_flags, most_in_flight, passes, ring_bytes, spans};
use insta::assert_snapshot;
use parity::{Ready, Record, Tensors, parse, record, train_config};
use plan::{Plan, predict, rates};
use std::process::Command;
use step06::config::{Config, Parallel};
use step06::dry_run::{self, trainer};

fn planned(config: &Config) -> Plan {
    Plan::new(dry_run::run(config), trainer(config))
}

fn page(config: &Config) -> String {
    plan::page(dry_run::run(config), trainer(config))
}

/// Worlds that between them use every formula: each dimension alone and all at once, stages of
/// unequal length, a vocabulary that tp does not divide, tied ends, both schedules, a loss in two
/// slices, several buckets and none, and a dtype whose softmax is wider than its products.
fn worlds() -> Vec<Vec<String>> {
    let tied = Model { tied: true, layers: 5, vocab: 259 };
    let plain = Model { layers: 5, ..Model::default() };
    [
        (plain, "--global-batch 4 --micro-batch 2"),
        (tied, "--global-batch 8 --micro-batch 2 --dp 2 --pp 2 --cp 2 --tp 2"),
        (plain, "--global-batch 8 --micro-batch 1 --dp 2 --pp 2 --cp 2 --tp 2 --dtype bf16"),
        (tied, "--global-batch 6 --micro-batch 1 --dp 3 --bucket-mb 0.01"),
        (plain, "--global-batch 6 --micro-batch 2 --dp 3 --cp 2 --dp-sync naive --dtype f32"),
        (tied, "--global-batch 4 --micro-batch 2 --tp 8 --tp-sync blocking"),
        (tied, "--global-batch 80 --micro-batch 40 --tp 4 --pp 2 --schedule afab"),
        (tied, "--global-batch 5 --micro-batch 1 --pp 5 --tp 2"),
        (plain, "--global-batch 4 --micro-batch 2 --cp 4 --cp-layout contiguous --dtype bf16"),
    ]
    .map(|(model, run)| model.flags(&format!("{run} --steps 2")))
    .into()
}

#[test]
fn the_bytes_foretold_are_the_bytes_sent() {
    for flags in worlds() {
        let config = parse::<Config>(&flags).unwrap();
        let plan = planned(&config);
        for Record { coords, stats, .. } in record(6, &flags).unwrap() {
            for stats in stats {
                assert_eq!(stats.comm_bytes, plan.comm_bytes(coords), "{flags:?}, {coords}");
            }
        }
    }
}

/// Parameters that a bucket has room for are not sent alone: each message has its latency.
#[test]
fn the_sums_of_gradients_foretold_are_those_that_travel() {
    macro_rules! run {
        ($step:ident) => {
            |flags| {
                let config = parse::<$step::config::Config>(flags)?;
                let launch = config.launch();
                let run = move |mesh: &Mesh| $step::train::run(&config, config.texts(), mesh);
                launch::launch(&launch, run).map(drop)
            }
        };
    }
    type Run = fn(&[String]) -> anyhow::Result<()>;
    let runs: [(u8, &str, Run); 7] = [
        (2, "--dp 2", run!(step02)),
        (2, "--dp 2 --dp-sync naive", run!(step02)),
        (3, "--dp 2 --tp 2", run!(step03)),
        (4, "--dp 3 --pp 2 --tp 1", run!(step04)),
        (5, "--dp 1 --pp 1 --cp 2 --tp 1", run!(step05)),
        (6, "--dp 2 --pp 2 --cp 2 --tp 1", run!(step06)),
        (7, "--dp 2 --pp 2 --cp 2 --tp 1", run!(step07)),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (step, flags, run) in runs {
        let path = dir.path().join("trace.json");
        // 2,621 numbers at the most.
        let shape = "--global-batch 6 --micro-batch 1 --steps 1 --bucket-mb 0.02";
        let flags = format!("{shape} {flags} --trace {}", path.display());
        let all = Model::default().flags(&flags);
        let config = parse::<Config>(&all).unwrap(); // which has the flags of every step
        let plan = planned(&config);
        if step == 2 && !flags.contains("naive") {
            // From the head back to the embedding, each of which is more than a bucket holds: the
            // final norm, down_proj; up_proj; gate_proj, a norm; o_proj; v_proj, k_proj; q_proj, a
            // norm; down_proj …
            let layer = [1536, 1536 + 32, 2048, 1024 + 1024, 2048 + 32];
            let cut = [&[8192, 32 + 1536][..], &layer, &[1536], &layer, &[8192]].concat();
            assert_eq!(plan.buckets(Coords::default()), cut);
        }
        run(&all).unwrap();
        let mut spans = spans(&path);
        spans.sort_by(|a, b| a.start.total_cmp(&b.start));
        let layout = config.parallel.layout();
        for rank in 0..layout.world() {
            let at = layout.coords(rank);
            let (mine, n) = (at.dp * layout.cp + at.cp, layout.dp * layout.cp);
            // Behind the gradients, the loss.
            let sums = plan.buckets(at).into_iter().chain([1]);
            let foretold: Vec<u64> = sums.map(|len| ring_bytes(len as usize, 8, mine, n)).collect();
            let row = if layout.cp == 1 { "dp" } else { "dp_cp" };
            let is_sum = |span: &&Span| {
                span.rank == rank as u64 && span.track == row && span.name.contains("all_reduce")
            };
            let sent: Vec<u64> =
                spans.iter().filter(is_sum).filter_map(|span| span.bytes).collect();
            assert_eq!(sent, foretold, "step {step}, {flags}, {at}");
        }
    }
}

#[test]
fn the_weights_foretold_are_the_weights_held() {
    let bytes = |tensors: &Tensors| -> usize {
        tensors.values().map(|t| t.numel() * t.kind().elt_size_in_bytes()).sum()
    };
    for flags in worlds() {
        let config = parse::<Config>(&flags).unwrap();
        let plan = planned(&config);
        for Record { coords, weights, grads, .. } in record(6, &flags).unwrap() {
            let memory = plan.memory(coords);
            let held = [bytes(&weights[0]), bytes(&grads[0])].map(|n| n as u64);
            assert_eq!([memory.weights, memory.gradients], held, "{flags:?}, {coords}");
            // Two moments of each weight, in its dtype (`optimizer.rs`).
            assert_eq!(memory.optimizer, 2 * held[0], "{flags:?}, {coords}");
        }
    }
}

/// The plan counts the very lists that each stage works through, and nothing else.
#[test]
fn the_passes_foretold_are_those_that_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    for schedule in ["1f1b", "afab"] {
        for (pp, micro_batches) in [(4, 2), (4, 8), (2, 3), (5, 5)] {
            let run = format!("--micro-batch 1 --pp {pp} --schedule {schedule} --steps 1");
            let run = format!("{run} --global-batch {micro_batches} --trace {}", path.display());
            let model = Model { layers: 5, ..Model::default() };
            let config = parse::<Config>(&model.flags(&run)).unwrap();
            let of_run = config.clone();
            launch::launch(&config.launch(), move |mesh| {
                step06::train::run(&of_run, of_run.texts(), mesh)
            })
            .unwrap();
            let (made, plan) = (passes(&path), planned(&config));
            assert_eq!(made, trainer(&config).passes, "{schedule}, {pp} stages");
            for (stage, made) in made.iter().enumerate() {
                let kept = most_in_flight(made) as u64;
                assert_eq!(plan.in_flight(stage), kept, "{schedule}, stage {stage} of {pp}");
            }
        }
    }
}

const CHILD: &str = "FERROTRON_TEST_ACTIVATIONS";

/// A model whose activations dwarf everything else: 2048 tokens at once.
fn wide(micro_batches: usize, flags: &str) -> Ready<Config> {
    let path = format!("{}/wide.toml", env!("CARGO_TARGET_TMPDIR"));
    let text = "[model]\nvocab_size = 256\nhidden_size = 128\nintermediate_size = 256\n\
                num_hidden_layers = 4\nnum_attention_heads = 4\nnum_key_value_heads = 2\n\
                [data]\nseq-len = 256\n[train]\nsteps = 1\n[run]\nsample = 0\n\
                [parallel]\ndp = 1\npp = 1\ncp = 1\ntp = 1\n";
    // Ranks that are processes come here side by side: none may read what another has half written.
    let own = format!("{path}.{}", std::process::id());
    std::fs::write(&own, text).unwrap();
    std::fs::rename(&own, &path).unwrap();
    let run = format!("--config {path} --micro-batch 8 {flags}");
    let flags = format!("{run} --global-batch {}", 8 * micro_batches);
    parse::<Config>(&flags.split(' ').map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

/// The peak memory of each rank, in bytes, in a run of one step. Each is a process of its own, by
/// this test binary itself: where ranks share a process, its peak depends on whose short-lived
/// tensors meet whose.
fn peaks(micro_batches: usize, flags: &str, ranks: usize) -> Vec<u64> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_activations_foretold_are_the_memory_that_they_take", "--nocapture"])
        .env(CHILD, format!("{micro_batches} --launcher processes {flags}"))
        // A tensor that is freed goes back to the system: the peak is what is in use.
        .env("MALLOC_MMAP_THRESHOLD_", "32768")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let peaks = text.lines().find_map(|line| line.strip_prefix("peaks "));
    let peaks: Vec<u64> =
        peaks.and_then(|list| serde_json::from_str(list).ok()).unwrap_or_default();
    assert_eq!(peaks.len(), ranks, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    peaks
}

/// On one rank, and cut in each way. Where all forward passes come before all backward ones,
/// every stage keeps all micro-batches at one time; under 1F1B the first of two keeps two of
/// them, the last one.
#[test]
fn the_activations_foretold_are_the_memory_that_they_take() {
    if let Ok(run) = std::env::var(CHILD) {
        let (micro_batches, flags) = run.split_once(' ').unwrap();
        let config = wide(micro_batches.parse().unwrap(), flags);
        let launch = config.launch();
        launch::launch(&launch, move |mesh| {
            step06::train::Trainer::new(&config, config.texts(), mesh)?.step()?;
            let peaks = mesh.gather(report::peak_memory_bytes())?;
            if mesh.is_leader() {
                println!("peaks {peaks:?}"); // the others' output is not passed on
            }
            Ok(())
        })
        .unwrap();
        return;
    }
    // Autograd's nodes, the tokens and the rest of each tensor's last page are not counted: on each
    // rank about 0.7 MB, which weighs more where several share what one would keep.
    let whole = ["--dtype f32", "--dtype f64", "--dtype bf16"].map(|flags| (flags, 0.03));
    let cut =
        ["--dtype f32 --tp 2", "--dtype f32 --cp 2", "--dtype f32 --pp 2", "--dtype bf16 --cp 2"];
    let afab = whole.into_iter().chain(cut.map(|flags| (flags, 0.04)));
    let afab = afab.map(|(flags, bound)| (format!("{flags} --schedule afab"), bound, 0));
    // Here messages under way both ways, two each, meet the activations.
    let one_f_one_b = ("--dtype f32 --pp 2 --schedule 1f1b".to_owned(), 0.04, 4);
    for (flags, bound, messages) in afab.chain([one_f_one_b]) {
        let configs = [3, 1].map(|micro_batches| wide(micro_batches, &flags));
        let layout = configs[0].parallel.layout();
        // Two runs that differ in the micro-batches in flight alone.
        let [three, one] = [3, 1].map(|micro_batches| peaks(micro_batches, &flags, layout.world()));
        for rank in 0..layout.world() {
            let kept = |config| planned(config).memory(layout.coords(rank)).activations as f64;
            let [foretold, each] = [kept(&configs[0]) - kept(&configs[1]), kept(&configs[1])];
            let measured = three[rank] as f64 - one[rank] as f64;
            println!("{flags}, rank {rank}: {measured} measured, {foretold} foretold");
            let message = (configs[0].train.micro_batch * configs[0].data.seq_len * 128 * 4) as f64;
            // Where further micro-batches cost nothing, no more than a small part of one.
            let allowed = bound * foretold.max(each) + f64::from(messages) * message;
            approx::assert_abs_diff_eq!(measured, foretold, epsilon = allowed);
        }
    }
}

/// A file of `configs/`, for a dry run under these flags.
fn published(name: &str, flags: &str) -> Ready<Config> {
    let path = format!("{}/../configs/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let flags = format!("--dry-run --config {path} {flags}");
    parse::<Config>(&flags.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).unwrap()
}

/// Llama 3 405B: *The Llama 3 Herd of Models*, table 4: the layout, and its MFU.
const LLAMA: [(&str, &str, f64); 3] = [
    ("dp 64 · pp 16 · cp 1 · tp 8 = 8,192 ranks", "", 43.0),
    ("dp 128 · pp 16 · cp 1 · tp 8 = 16,384 ranks", "--dp 128", 41.0),
    (
        "dp 8 · pp 16 · cp 16 · tp 8 = 16,384 ranks",
        "--dp 8 --cp 16 --seq-len 131072 --global-batch 128",
        38.0,
    ),
];

#[test]
fn the_largest_worlds_are_laid_out_whole() {
    for (mesh, flags, _) in LLAMA {
        let config = published("llama-3.1-405b", flags);
        assert!(page(&config).contains(mesh), "{}", page(&config));
        let plan = planned(&config);
        let layout = config.parallel.layout();
        assert_eq!(plan.stages().iter().map(|s| s.end - s.start).sum::<i64>(), 126);
        assert!(plan.stages().windows(2).all(|pair| pair[0].end == pair[1].start));
        let tokens = config.train.global_batch * config.data.seq_len;
        assert_eq!(tokens, 16 << 20);
        let seen = plan.tokens as usize * plan.micro_batches as usize * layout.dp * layout.cp;
        assert_eq!(seen, tokens);
        // The ranks of a replica hold the model, and every tp rank all norms.
        let of = |pp, tp| plan.parameters(Coords { pp, tp, ..Coords::default() }).iter().sum();
        let held: u64 = (0..layout.pp)
            .flat_map(|pp| (0..8).map(move |tp| (pp, tp)))
            .map(|(pp, tp)| -> u64 { of(pp, tp) })
            .sum();
        let norms = (2 * 126 + 1) * 16384;
        assert_eq!(held - 7 * norms, 405_853_388_800);
    }
}

#[test]
fn the_published_models_have_their_published_sizes() {
    let parameters = |name| {
        let mut config = published(name, "");
        let Parallel { dp, pp, cp, tp, .. } = &mut config.parallel;
        [dp, pp, cp, tp].into_iter().for_each(|ranks| *ranks = 1);
        planned(&config).parameters(Coords::default()).iter().sum::<u64>()
    };
    // As counted by Hugging Face: 1.71B, 8.03B, 406B.
    assert_eq!(parameters("smollm-1.7b"), 1_711_376_384);
    assert_eq!(parameters("llama-3.1-8b"), 8_030_261_248);
    assert_eq!(parameters("llama-3.1-405b"), 405_853_388_800);
}

#[test]
fn each_configuration_names_the_first_step_that_takes_it() {
    for name in ["tiny", "smollm-1.7b", "llama-3.1-8b", "llama-3.1-405b"] {
        let path = format!("{}/../configs/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        let (_, needs) = text.split_once("Needs step0").expect(name);
        let needs: u8 = needs[..1].parse().unwrap();
        // Where there is no GPU, or no data, a step refuses the run for that.
        let too_early = |step| match train_config(step, &["--config".to_owned(), path.clone()]) {
            Ok(_) => false,
            Err(error) => format!("{error:#}").contains("comes with step"),
        };
        assert!((1..=6).all(|step| too_early(step) == (step < needs)), "{name}");
    }
}

#[test]
fn llama_405b_was_faster_than_this_schedule_and_slower_than_an_interleaved_one() {
    for (mesh, flags, published_mfu) in LLAMA {
        let config = published("llama-3.1-405b", flags);
        let gpu = Gpu::H100.figures();
        let step = predict(&planned(&config), &gpu);
        let mfu =
            |seconds: f64| 100.0 * rates(&step06::dry_run::run(&config), seconds)[0] / gpu.bf16;
        let plan = planned(&config);
        let layers = (0..plan.stages().len()).map(|stage| plan.layers(stage)).min().unwrap();
        let (ours, most) = (mfu(step.seconds()), mfu(step.interleaved(layers)));
        println!("{mesh}: {ours:.1}% predicted, {most:.1}% interleaved; {published_mfu}% reached");
        // Their schedule interleaves stages, ours does not: the truth is between the two, if each
        // layer is a stage.
        assert!(ours < published_mfu && published_mfu < most, "{mesh}: {ours} {most}");
    }
}

#[test]
fn messages_are_waited_for_in_every_micro_batch_under_1f1b_and_once_under_afab() {
    let waits = |schedule, micro_batches: usize| {
        let flags = format!("--dp 1 --pp 8 --tp 8 --schedule {schedule}");
        let flags = format!("{flags} --global-batch {micro_batches}");
        let config = published("llama-3.1-8b", &flags);
        predict(&planned(&config), &Gpu::H100.figures()).pp
    };
    let [few, many] = [32, 64].map(|m| waits("1f1b", m));
    approx::assert_relative_eq!(many, 2.0 * few, max_relative = 0.2);
    let [few, many] = [32, 64].map(|m| waits("afab", m));
    approx::assert_relative_eq!(many, few, max_relative = 1e-6);
}

/// Backward, sums travel beside a weight's gradient, as far as its product lasts;
/// forward, none does.
#[test]
fn sums_over_tp_are_hidden_in_the_backward_pass_where_they_are_overlapped() {
    let seconds = |flags: &str| {
        let config = published("llama-3.1-8b", &format!("--dp 1 --pp 1 --tp 2 {flags}"));
        predict(&planned(&config), &Gpu::H100.figures())
    };
    let [overlapped, blocking] =
        ["overlapped", "blocking"].map(|how| seconds(&format!("--tp-sync {how}")));
    // Sums of a layer: two forward, two backward; and the embedding's forward, the head's backward.
    // With tp 2 the products beside them last longer than they do.
    let layers = 32.0;
    let each = blocking.tp / (4.0 * layers + 2.0);
    approx::assert_relative_eq!(overlapped.tp, (2.0 * layers + 1.0) * each, max_relative = 1e-9);
    approx::assert_relative_eq!(
        blocking.seconds() - overlapped.seconds(),
        blocking.tp - overlapped.tp,
        max_relative = 1e-9
    );
}

#[test]
fn sums_of_gradients_after_the_backward_pass_are_not_hidden() {
    let dp = |flags: &str| {
        let config = published("smollm-1.7b", &format!("--dp 8 --global-batch 32 {flags}"));
        predict(&planned(&config), &Gpu::H100.figures())
    };
    let [naive, bucketed] = ["naive", "bucketed"].map(|how| dp(&format!("--dp-sync {how}")));
    // A ring of 8 sends 7/8 of the numbers twice, over links that reach 80% of their rate,
    // as the page says.
    let config = published("smollm-1.7b", "--dp 8 --global-batch 32");
    let plan = planned(&config);
    let bytes = plan.parameters(Coords::default()).iter().sum::<u64>() as f64 * 4.0 * 14.0 / 8.0;
    let rate = Gpu::H100.figures().nvlink * 0.8;
    approx::assert_relative_eq!(naive.dp, bytes / rate, max_relative = 1e-6);
    // With buckets the last backward pass, two thirds of a micro-batch's work, hides what it can.
    let passes = plan.micro_batches as f64;
    let hidden = bucketed.busy() / passes * 2.0 / 3.0;
    approx::assert_relative_eq!(
        bucketed.dp,
        (naive.dp - hidden).max(0.0),
        epsilon = 1e-6 * naive.dp
    );
}

/// The last of four ranks attends to three and a half of four blocks, the average one to two.
#[test]
fn contiguous_attention_lasts_as_long_as_on_its_busiest_rank() {
    let attention = |layout: &str| {
        let flags = format!("--dp 1 --pp 1 --cp 4 --tp 1 --cp-layout {layout}");
        predict(&planned(&published("llama-3.1-8b", &flags)), &Gpu::H100.figures()).attention
    };
    approx::assert_relative_eq!(
        attention("contiguous"),
        attention("zigzag") * 3.5 / 2.0,
        max_relative = 1e-9
    );
}

#[test]
fn a_plan_fits_or_is_tight_or_does_not_fit() {
    let verdict = |micro_batch: usize| {
        let flags = format!("--micro-batch {micro_batch} --global-batch {}", 96 * micro_batch);
        let page = page(&published("smollm-1.7b", &flags));
        let line = page.lines().find(|line| line.contains("the most")).unwrap().to_owned();
        println!("{line}");
        ["fits", "is TIGHT in", "does NOT fit"].map(|verdict| line.contains(verdict))
    };
    assert_eq!(verdict(8), [true, false, false]);
    assert_eq!(verdict(10), [false, true, false]);
    assert_eq!(verdict(12), [false, false, true]);
}

/// The ring's FlashAttention-2 was written for an A100.
#[test]
fn a_ring_s_attention_is_half_as_fast_on_hopper() {
    let seconds = |gpu: Gpu, cp: usize, layout: &str| {
        let flags = format!("--dp 1 --tp 8 --pp 1 --cp {cp} --cp-layout {layout}");
        let mut config = published("llama-3.1-8b", &flags);
        config.planning.gpu = gpu;
        predict(&planned(&config), &gpu.figures()).attention
    };
    for (gpu, slower) in [(Gpu::H100, 2.0), (Gpu::H200, 2.0), (Gpu::A100, 1.0)] {
        let one = seconds(gpu, 1, "zigzag");
        approx::assert_relative_eq!(
            2.0 * seconds(gpu, 2, "zigzag"),
            slower * one,
            max_relative = 1e-6
        );
    }
}

#[test]
fn nothing_that_a_run_would_need_is_missed() {
    let flags = "--dry-run --launcher env --device cuda --data /no/such.txt --tokenizer /no/t.json \
                 --save /dev/null --metrics /no/dir/m.jsonl --dp 16384 --global-batch 32768";
    let config = parse::<Config>(&flags.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    assert!(page(&config.unwrap()).contains("16,384 ranks"));
}

#[test]
fn any_layout_of_sixteen_has_a_page_that_a_person_can_read() {
    for layout in common::layouts(16) {
        let model = Model { layers: 16, ..Model::default() };
        let flags = format!("--dry-run --global-batch 32 --seq-len 32 {}", layout_flags(layout));
        let Ok(config) = parse::<Config>(&model.flags(&flags)) else {
            assert_eq!(layout.tp, 16, "{layout}"); // more than key/value heads
            continue;
        };
        let page = self::page(&config);
        assert!(page.lines().count() <= 45 && page.lines().all(|l| l.chars().count() <= 110));
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }
}

#[test]
fn the_page_of_a_small_world() {
    let config = parse::<Config>(
        &"--dry-run --dp 2 --pp 2 --cp 2 --tp 2".split(' ').map(str::to_owned).collect::<Vec<_>>(),
    );
    assert_snapshot!(page(&config.unwrap()), @r"
    dry run: nothing is allocated, read or started

    model   853,120 parameters, 4 layers, hidden 128, vocabulary 256
    step    8 sequences of 128 = 1,024 tokens; 2 micro-batches of 2 a replica; f32, 1f1b
    mesh    dp 2 · pp 2 · cp 2 · tp 2 = 16 ranks, numbered with tp innermost, then cp, pp, dp

    who sits where
       0  dp0 pp0 cp0 tp0      1  dp0 pp0 cp0 tp1      2  dp0 pp0 cp1 tp0      3  dp0 pp0 cp1 tp1
       4  dp0 pp1 cp0 tp0      5  dp0 pp1 cp0 tp1      6  dp0 pp1 cp1 tp0      7  dp0 pp1 cp1 tp1
       8  dp1 pp0 cp0 tp0      9  dp1 pp0 cp0 tp1     10  dp1 pp0 cp1 tp0     11  dp1 pp0 cp1 tp1
      12  dp1 pp1 cp0 tp0     13  dp1 pp1 cp0 tp1     14  dp1 pp1 cp1 tp0     15  dp1 pp1 cp1 tp1

    held by a rank of each stage
      stage   layers     parameters     weights    copies  gradients       Adam  in flight  activations      total
          0      0–1        213,504   834.0 KiB 512.0 KiB  834.0 KiB    1.6 MiB          2      3.6 MiB    7.4 MiB
          1      2–3        213,632   834.5 KiB 512.0 KiB  834.5 KiB    1.6 MiB          1      2.0 MiB    5.8 MiB
      the most: stage 0, 7.4 MiB and 352.0 KiB at work, which fits the 79.6 GiB of one h100
      (at work: logits, gradients on their way; a tenth of the GPU is left to CUDA, NCCL, fragmentation)

    sent by a rank in one step
      stage          dp          tp          pp          cp
          0     1.2 MiB     1.1 MiB   128.0 KiB   256.0 KiB
          1     1.2 MiB     1.1 MiB   128.0 KiB   256.0 KiB

    a step on 16 h100, predicted
      matrix products         6.98 µs   17.4%
      attention               0.63 µs    1.6%  zigzag: as much on every cp rank
      elementwise, casts      7.56 µs   18.9%
      tp, not hidden          2.01 µs    5.0%
      cp, not hidden          0.42 µs    1.0%
      bubble                  8.14 µs   20.3%  (pp − 1)/(m + pp − 1) = 33.3%
      pp, not hidden          0.36 µs    0.9%
      dp, not hidden         10.15 µs   25.3%
      optimiser               3.81 µs    9.5%
      step                   40.06 µs           25,563,774 tokens/s; starting kernels takes longer
      MFU 14.1%: 9 of 67 TFLOP/s, counted as 6N + 12LhS a token; 12.7% strict: no look-up, half of attention
      and were products at 80%: 14.5%; elementwise fused to half: 16.3%; interleaved, bubble / 2: 15.7%
    assumed: products and attention at 70% of peak, memory at 90%, links at 80%,
      no latency, a network card for each GPU; attention fused; memory suffices. Hidden, where a GPU has room
      for both: backward tp sums behind weights' gradients, dp behind the last backward pass, cp behind
      attention. Not counted: data, checkpoints, stragglers. Compared with no measurement yet.
    ");
}

#[test]
fn the_page_of_a_large_world() {
    assert_snapshot!(page(&published("llama-3.1-405b", "")), @r"
    dry run: nothing is allocated, read or started

    model   405,853,388,800 parameters, 126 layers, hidden 16,384, vocabulary 128,256
    step    2,048 sequences of 8,192 = 16,777,216 tokens; 32 micro-batches of 1 a replica; bf16, 1f1b
    mesh    dp 64 · pp 16 · cp 1 · tp 8 = 8,192 ranks, numbered with tp innermost, then cp, pp, dp

    who sits where
      rank     0  dp0 pp0 cp0 tp0
      rank 8,191  dp63 pp15 cp0 tp7
      rank 0's tp group:     8  0, 1, … 7                inside a node
      rank 0's cp group:     1  0 alone
      rank 0's pp group:    16  0, 8, … 120              between nodes
      rank 0's dp group:    64  0, 128, … 8,064          between nodes

    held by a rank of each stage
      stage   layers     parameters     weights    copies  gradients       Adam  in flight  activations      total
          0      0–6  3,052,109,824    11.4 GiB   5.2 GiB   11.4 GiB   22.7 GiB         16    169.0 GiB  219.7 GiB
          1     7–14  3,187,933,184    11.9 GiB   5.9 GiB   11.9 GiB   23.8 GiB         15    180.5 GiB  234.0 GiB
          8    63–70  3,187,933,184    11.9 GiB   5.9 GiB   11.9 GiB   23.8 GiB          8     96.3 GiB  149.7 GiB
         14  111–118  3,187,933,184    11.9 GiB   5.9 GiB   11.9 GiB   23.8 GiB          2     24.1 GiB   77.5 GiB
         15  119–125  3,052,126,208    11.4 GiB   5.2 GiB   11.4 GiB   22.7 GiB          1     11.8 GiB   62.5 GiB
      the most: stage 1, 234.0 GiB and 568.0 MiB at work, which does NOT fit the 79.6 GiB of one h100
      (at work: logits, gradients on their way; a tenth of the GPU is left to CUDA, NCCL, fragmentation)

    sent by a rank in one step
      stage          dp          tp          pp          cp
          0    22.4 GiB   406.0 GiB     8.0 GiB           –
          1    23.4 GiB   448.0 GiB    16.0 GiB           –
          8    23.4 GiB   448.0 GiB    16.0 GiB           –
         14    23.4 GiB   448.0 GiB    16.0 GiB           –
         15    22.4 GiB   406.0 GiB     8.0 GiB           –

    a step on 8,192 h100, predicted
      matrix products         7.24 s    49.0%
      attention               0.36 s     2.4%
      elementwise, casts      1.03 s     7.0%
      tp, not hidden          0.77 s     5.2%
      bubble                  4.35 s    29.4%  (pp − 1)/(m + pp − 1) = 31.9%
      pp, not hidden          0.58 s     3.9%
      dp, not hidden          0.41 s     2.7%
      optimiser               0.05 s     0.4%
      step                   14.79 s            1,134,690 tokens/s
      MFU 36.9%: 365 of 989 TFLOP/s, counted as 6N + 12LhS a token; 35.3% strict: no look-up, half of attention
      and were products at 80%: 40.6%; elementwise fused to half: 38.9%; interleaved, bubble / 7: 49.4%
    assumed: products and attention at 70% of peak, memory at 90%, links at 80%,
      no latency, a network card for each GPU; attention fused; memory suffices. Hidden, where a GPU has room
      for both: backward tp sums behind weights' gradients, dp behind the last backward pass, cp behind
      attention. Not counted: data, checkpoints, stragglers. Compared with no measurement yet.
    ");
}
