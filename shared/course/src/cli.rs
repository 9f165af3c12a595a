//! Words of the command line.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::repo::Repo;
use crate::{check, grade, learn, lesson, solution, valid};

/// Hands out the exercises of a step, checks them, shows the solution, grades what was handed in.
#[derive(Parser)]
#[command(name = "course", disable_help_subcommand = true)]
struct Words {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Hand out a step: the bodies of its functions become todo!(), your work is kept
    Learn {
        /// The lesson, such as step03
        step: Option<String>,
        /// Hand out anew what is handed out already; what you wrote is kept
        #[arg(long)]
        again: bool,
    },
    /// Run a step's tests from the easiest on, and say what the first red one means
    Check(check::Check),
    /// Bring a step back, and show the difference between yours and ours
    Solution {
        /// The lesson, such as step03
        step: Option<String>,
    },
    /// Grade what was handed in: a folder, an archive or a patch
    Grade(grade::Grade),
    /// Check every lesson against the sources, the book and the tests
    Validate {
        /// The repository, if not this one
        #[arg(long)]
        root: Option<PathBuf>,
    },
}

/// Whether all is green.
pub fn run() -> Result<bool> {
    match Words::parse().command {
        Command::Learn { step, again } => learn::learn(step.as_deref(), again).map(|()| true),
        Command::Check(check) => check.run(),
        Command::Solution { step } => solution::solution(step.as_deref()).map(|()| true),
        Command::Grade(grade) => grade.run(),
        Command::Validate { root } => {
            if let Some(root) = root {
                std::env::set_current_dir(root)?;
            }
            let repo = Repo::here()?;
            let lessons = lesson::all(&repo.root)?;
            let tests = valid::Tests::read(&repo.root)?;
            for lesson in &lessons {
                valid::check(&repo, lesson, &tests)?;
            }
            println!("{} lessons fit the repository", lessons.len());
            Ok(true)
        }
    }
}
