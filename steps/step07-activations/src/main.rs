//! The program: reads settings and text, starts the ranks.

use cli::{Program, Start};
use comm::Layout;
use std::process::ExitCode;
use step07::{dry_run, held_out, train};

fn main() -> ExitCode {
    let layout = Layout { dp: 2, pp: 2, cp: 2, tp: 2 };
    let program = Program { step: 7, about: "fewer activations", layout };
    cli::main(program, held_out::open, |Start { config, launch, .. }, texts| {
        let Some(texts) = texts else { return dry_run::print(&config) };
        launch::launch(&launch, move |mesh| train::run(&config, &texts, mesh)).map(drop)
    })
}
