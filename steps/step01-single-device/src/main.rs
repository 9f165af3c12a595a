//! The program: reads settings and text, and trains.

use cli::Program;
use comm::Layout;
use std::process::ExitCode;
use step01::{text, train};

fn main() -> ExitCode {
    let program = Program { step: 1, about: "a Llama on one device", layout: Layout::default() };
    cli::main(program, text::open, |start, text| {
        start.launch.set_intra_op_threads();
        train::run(&start.config, &text)
    })
}
