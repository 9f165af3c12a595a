//! The answers that the book gives to its questions: `book/predict/quantities.toml` says what the code
//! counts, and here it is counted again, by the plan that `dry_run.rs` holds against real runs.

use comm::Coords;
use parity::parse;
use plan::{Plan, walk};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use step06::config::Config;
use step06::context_parallel::{Tile, tile};
use step06::dry_run::{self, trainer};

#[derive(Deserialize)]
struct Sheet {
    quantity: Vec<Quantity>,
}

#[derive(Deserialize)]
struct Quantity {
    name: String,
    value: f64,
    run: String,
    #[serde(default)]
    rank: usize,
    is: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The share of its time that a stage is idle, if all take equally long and messages no time.
fn idle(config: &Config, micro_batches: f64) -> f64 {
    let (passes, pp) = (trainer(config).passes, config.parallel.pp);
    1.0 - micro_batches / walk(&passes, &vec![1.0; pp], &vec![0.0; pp - 1])
}

/// The average work of a cp rank divided by the most, in blocks: a masked one is half.
fn balance(config: &Config) -> f64 {
    let (cp, layout, rows) = (config.parallel.cp, config.parallel.cp_layout, 1000);
    let work = |rank: usize| -> f64 {
        let tiles = (0..cp).filter_map(|from| tile(layout, rank, from, rows));
        let pairs = |of: Tile| {
            let all = (of.queries.end - of.queries.start) * (of.keys.end - of.keys.start);
            all as f64 / if of.causal { 2.0 } else { 1.0 }
        };
        tiles.map(pairs).sum()
    };
    let works: Vec<f64> = (0..cp).map(work).collect();
    works.iter().sum::<f64>() / cp as f64 / works.iter().fold(0.0, |a, b| b.max(a))
}

/// Tokens of a micro-batch whose backward pass, 4 operations for each parameter at 400 TFLOP/s, takes
/// as long as what the rank at `at` sends over dp at 25 GB/s.
fn tokens_that_hide_dp(plan: &Plan, at: Coords) -> f64 {
    let parameters: u64 = plan.parameters(at).iter().sum();
    sent(plan, at, "dp") / 25e9 * 400e12 / (4 * parameters) as f64
}

fn sent(plan: &Plan, at: Coords, group: &str) -> f64 {
    let counted = serde_json::to_value(plan.comm_bytes(at)).unwrap();
    counted[group].as_f64().unwrap()
}

#[test]
fn the_book_is_told_what_the_code_counts() {
    let text = std::fs::read_to_string(root().join("book/predict/quantities.toml")).unwrap();
    let sheet: Sheet = toml::from_str(&text).unwrap();
    let mut problems = Vec::new();
    for Quantity { name, value, run, rank, is } in &sheet.quantity {
        // Files are named from the root; a dry run reads no text and needs no GPU.
        let at_root = |word: &str| match root().join(word) {
            path if word.ends_with(".toml") => path.display().to_string(),
            _ => word.to_owned(),
        };
        let mut flags: Vec<String> = run.split_whitespace().map(at_root).collect();
        flags.push("--dry-run".to_owned());
        let config = parse::<Config>(&flags).unwrap_or_else(|why| panic!("{name}: {why:#}"));
        let plan = Plan::new(dry_run::run(&config), trainer(&config));
        let layout = config.parallel.layout();
        let at = layout.coords(*rank);
        let everywhere = |of: fn(&Plan, Coords) -> u64| {
            let ranks = (0..layout.world()).map(|rank| layout.coords(rank));
            let replica = ranks.filter(|at| at.dp == 0 && at.cp == 0);
            replica.map(|at| of(&plan, at)).sum::<u64>() as f64
        };
        let counted = match is.split_once(' ').unwrap_or((is, "")) {
            ("parameters", "") => plan.parameters(at).iter().sum::<u64>() as f64,
            ("state", "") => {
                let memory = plan.memory(at);
                (memory.weights + memory.gradients + memory.optimizer) as f64
            }
            // Each number once: norms are on all tp ranks, so they are counted with tp 1.
            ("saved", "") => everywhere(|plan, at| plan.memory(at).weights) * 3.0,
            ("sent", group) => sent(&plan, at, group),
            ("rows", "") => plan.vocab(at.tp) as f64,
            ("in", "flight") => plan.in_flight(at.pp) as f64,
            ("idle", "") => idle(&config, plan.micro_batches as f64),
            ("balance", "") => balance(&config),
            ("tokens", "that hide dp") => tokens_that_hide_dp(&plan, at),
            ("coordinate", "dp") => at.dp as f64,
            _ => panic!("{name}: nobody counts `{is}`"),
        };
        // Equal for counts; a share is rounded, and no ring is endless.
        let bound = if is.starts_with("tokens") { 0.002 } else { 1e-12 };
        if (counted - value).abs() > bound * value {
            problems.push(format!("{name}: the sheet says {value}, the code counts {counted}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
