//! `train FLAGS…`: what the program of step `PARITY_STEP` does, where nothing has built that.

use cli::{Program, Start};
use comm::Layout;
use launch::launch;
use std::process::ExitCode;

fn main() -> ExitCode {
    let step = std::env::var("PARITY_STEP").ok().and_then(|step| step.parse().ok()).unwrap_or(6);
    let program = Program { step, about: "a step under test", layout: Layout::default() };
    match step {
        1 => cli::main(program, step01::text::open, |start, text| {
            start.launch.set_intra_op_threads();
            step01::train::run(&start.config, &text)
        }),
        2 => cli::main(
            program,
            step02::text::open,
            |Start { config, launch: settings, .. }, text| {
                launch(&settings, move |mesh| step02::train::run(&config, &text, mesh)).map(drop)
            },
        ),
        _ => cli::main(program, step06::held_out::open, |start, texts| {
            let (Start { config, launch: settings, .. }, texts) =
                (start, texts.expect("no dry run"));
            launch(&settings, move |mesh| step06::train::run(&config, &texts, mesh)).map(drop)
        }),
    }
}
