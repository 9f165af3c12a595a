//! `cargo run -p tokenize -- TEXT… --out FILE --tokenizer DIR`

use clap::Parser;
use std::process::ExitCode;
use tokenize::{Refused, Tokenize};

fn main() -> ExitCode {
    match Tokenize::parse().run(|line| eprintln!("{line}")) {
        Ok(Ok(done)) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
        Err(Refused(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
