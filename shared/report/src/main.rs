//! Loss curves of several runs, one over the other.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use report::{Curve, plot, write_whole};
use std::path::PathBuf;
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
}

fn main() -> ExitCode {
    let Arguments { command: Command::Plot { metrics, out } } = Arguments::parse();
    match draw(&metrics, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn draw(metrics: &[PathBuf], out: &PathBuf) -> Result<()> {
    anyhow::ensure!(
        !metrics.iter().any(|file| file == out),
        "out {} is one of the metrics, and would be overwritten: name another file",
        out.display()
    );
    let mut curves = metrics.iter().map(|path| Curve::read(path)).collect::<Result<Vec<_>>>()?;
    tell_apart(&mut curves, metrics);
    let svg = plot::svg(&curves)?;
    write_whole(out, svg.as_bytes()).with_context(|| format!("cannot write {}", out.display()))
}

/// Files of one name in several directories are shown with their paths.
fn tell_apart(curves: &mut [Curve], metrics: &[PathBuf]) {
    let names: Vec<String> = curves.iter().map(|curve| curve.name.clone()).collect();
    for (curve, path) in curves.iter_mut().zip(metrics) {
        if names.iter().filter(|name| **name == curve.name).count() > 1 {
            curve.name = path.display().to_string();
        }
    }
}
