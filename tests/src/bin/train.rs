//! `train FLAGS…`: what the program of step `PARITY_STEP` does, where nothing has built that.

use cli::Program;
use comm::Layout;
use launch::launch;
use std::process::ExitCode;

fn main() -> ExitCode {
    let step = std::env::var("PARITY_STEP").ok().and_then(|step| step.parse().ok()).unwrap_or(6);
    let program = Program { step, about: "a step under test", layout: Layout::default() };
    cli::main(program, move |config| {
        let settings = config.launch();
        match step {
            1 => {
                settings.set_intra_op_threads();
                step01::train::run(&config)
            }
            2 => launch(&settings, move |mesh| step02::train::run(&config, mesh)).map(drop),
            _ => launch(&settings, move |mesh| step06::train::run(&config, mesh)).map(drop),
        }
    })
}
