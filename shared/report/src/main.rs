//! Loss curves of several runs, one over the other, and what their ranks hold in memory.

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use report::{Curve, memory, plot, write_whole};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What can be made of a run's files
#[derive(Parser)]
#[command(name = "report", term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Draw the losses of one or more runs in one picture
    Plot {
        /// What runs have written with --metrics; each curve is named after its file
        #[arg(required = true)]
        metrics: Vec<PathBuf>,
        /// The picture, in SVG
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Draw what one rank of one or more runs holds over a step in one picture
    Memory {
        /// What runs have written beside their picture of memory
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// The picture, in SVG
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// The rank, or a part of its name, as in pp1; without it, the first
        #[arg(long)]
        rank: Option<String>,
        /// What the runs are called, parted by commas; without it, as their files
        #[arg(long, value_delimiter = ',')]
        names: Vec<String>,
    },
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Plot { metrics, out } => losses(&metrics, &out),
        Command::Memory { runs, out, rank, names } => held(&runs, &out, rank.as_deref(), names),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn losses(metrics: &[PathBuf], out: &Path) -> Result<()> {
    keep(metrics, "metrics", out)?;
    let mut curves = metrics.iter().map(|path| Curve::read(path)).collect::<Result<Vec<_>>>()?;
    tell_apart(curves.iter_mut().map(|curve| &mut curve.name).collect(), metrics);
    write(out, &plot::svg(&curves)?)
}

fn held(runs: &[PathBuf], out: &Path, rank: Option<&str>, mut names: Vec<String>) -> Result<()> {
    keep(runs, "runs", out)?;
    if names.is_empty() {
        let stem = |path: &PathBuf| path.file_stem().unwrap_or_default().display().to_string();
        names = runs.iter().map(stem).collect();
        tell_apart(names.iter_mut().collect(), runs);
    }
    ensure!(
        names.len() == runs.len(),
        "{} names for {} runs, give each its own: --names {}",
        names.len(),
        runs.len(),
        names.join(",")
    );
    let lines = runs.iter().map(|path| memory::read_memory(path)).collect::<Result<Vec<_>>>()?;
    write(out, &memory::overlay(&names.into_iter().zip(lines).collect::<Vec<_>>(), rank)?)
}

/// What is read is not written to.
fn keep(read: &[PathBuf], what: &str, out: &Path) -> Result<()> {
    ensure!(
        !read.iter().any(|file| file == out),
        "out {} is one of the {what}, and would be overwritten: name another file",
        out.display()
    );
    Ok(())
}

fn write(out: &Path, svg: &str) -> Result<()> {
    write_whole(out, svg.as_bytes()).with_context(|| format!("cannot write {}", out.display()))
}

/// Files of one name in several directories are shown with their paths.
fn tell_apart(mut shown: Vec<&mut String>, paths: &[PathBuf]) {
    let names: Vec<String> = shown.iter().map(|name| name.to_string()).collect();
    for (name, path) in shown.iter_mut().zip(paths) {
        if names.iter().filter(|other| *other == *name).count() > 1 {
            **name = path.display().to_string();
        }
    }
}
