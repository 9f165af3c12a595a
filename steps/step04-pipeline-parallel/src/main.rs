//! The program: reads settings and text, starts the ranks.

use cli::{Program, Start};
use comm::Layout;
use std::process::ExitCode;
use step04::{text, train};

fn main() -> ExitCode {
    let layout = Layout { pp: 2, ..Layout::default() };
    let program = Program { step: 4, about: "layers split into stages", layout };
    cli::main(program, text::open, |Start { config, launch, .. }, text| {
        launch::launch(&launch, move |mesh| train::run(&config, &text, mesh)).map(drop)
    })
}
