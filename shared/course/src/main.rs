//! `make learn`, `make check`, `make solution` and `make grade`: hands out the exercises of a step, says how far the
//! learner is, brings the solution back, and grades what was handed in.
//!
//! A lesson is a file, `book/lessons/NAME.toml`. Whatever the learner has written is kept as a patch under
//! `.course/` before a source file is touched.

mod atomic;
mod cargo;
mod check;
mod cli;
mod differ;
mod grade;
mod harness;
mod keep;
mod keys;
mod lay;
mod learn;
mod lesson;
mod page;
mod points;
mod process;
mod refuse;
mod repo;
mod said;
mod solution;
mod source;
mod stub;
mod suite;
mod tell;
mod tokens;
mod valid;
mod work;

use std::process::ExitCode;

/// 0: all is green; 1: something is red; 2: the tool could not do what it was asked for.
fn main() -> ExitCode {
    match cli::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
