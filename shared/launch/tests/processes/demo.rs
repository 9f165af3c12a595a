//! The program under test: `demo LAUNCHER DIMENSION RANKS TIMEOUT ACT DIRECTORY`.

use anyhow::{Context, bail, ensure};
use comm::{Layout, Mesh};
use launch::{Launch, launch};
use std::path::Path;
use std::time::Duration;
use tch::{Device, Kind, Tensor};

pub fn main(arguments: impl Iterator<Item = String>) -> ! {
    std::process::exit(match run(arguments.collect()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("error: {error:#}");
            1
        }
    })
}

fn run(arguments: Vec<String>) -> anyhow::Result<()> {
    let [launcher, dimension, ranks, timeout, act, directory] = &arguments[..] else {
        bail!("six arguments, not {arguments:?}");
    };
    let ranks = ranks.parse()?;
    let layout = match dimension.as_str() {
        "dp" => Layout { dp: ranks, ..Layout::default() },
        "tp" => Layout { tp: ranks, ..Layout::default() },
        _ => bail!("no dimension {dimension}"),
    };
    let settings = Launch {
        layout,
        agreement: std::env::var("AGREEMENT").into_iter().collect(),
        launcher: launcher.parse().map_err(anyhow::Error::msg)?,
        // Infinity is no limit.
        timeout: Duration::try_from_secs_f64(timeout.parse()?).unwrap_or(Duration::MAX),
        threads_per_rank: std::env::var("THREADS").map_or(Ok(1), |n| n.parse())?,
        ..Launch::default()
    };
    let (act, directory) = (act.clone(), directory.clone());
    launch(&settings, move |mesh| perform(mesh, &act, Path::new(&directory)))?;
    Ok(())
}

/// Rank 1 is the one that acts up.
fn perform(mesh: &Mesh, act: &str, directory: &Path) -> anyhow::Result<()> {
    for _ in 0..3 {
        talk(mesh)?;
    }
    let note = directory.join(mesh.rank.to_string());
    let half = note.with_extension("half");
    std::fs::write(&half, std::process::id().to_string()).context("cannot write the note")?;
    std::fs::rename(&half, &note)?; // whoever sees it can read it
    talk(mesh)?; // all have left their notes
    println!("rank {} has talked", mesh.rank);
    match (act, mesh.rank) {
        ("leave", _) => return Ok(()),
        ("fail", 1) => bail!("no space left"),
        ("panic", 1) => panic!("index 7 is out of bounds"),
        ("exit", 1) => std::process::exit(7),
        ("unwrap", rank) if rank != 1 => loop {
            talk(mesh).unwrap(); // careless, but it happens
        },
        ("compute", 1) => bail!("no space left"),
        ("compute", _) => {
            let a = Tensor::ones([256, 256], (Kind::Float, Device::Cpu)); // [256, 256]
            loop {
                let _ = a.mm(&a); // nobody can stop this
            }
        }
        ("late", rank) => {
            std::thread::sleep(Duration::from_secs(rank as u64));
            return Ok(());
        }
        _ => {}
    }
    loop {
        talk(mesh)?;
    }
}

fn talk(mesh: &Mesh) -> anyhow::Result<()> {
    let ranks = Tensor::from_slice(&[mesh.rank as i64, 1]); // [sum of ranks, ranks]
    mesh.world.all_reduce(&ranks)?;
    let n = mesh.world.size() as i64;
    let expected = Tensor::from_slice(&[n * (n - 1) / 2, n]);
    ensure!(ranks.to_kind(Kind::Int64) == expected, "{ranks} is not {expected}");
    Ok(())
}
