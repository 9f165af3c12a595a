//! The program: reads settings and text, starts the ranks.

use cli::{Program, Start};
use comm::Layout;
use std::process::ExitCode;
use step02::{text, train};

fn main() -> ExitCode {
    let layout = Layout { dp: 2, ..Layout::default() };
    let program = Program { step: 2, about: "replicas that sum their gradients", layout };
    cli::main(program, text::open, |Start { config, launch, .. }, text| {
        launch::launch(&launch, move |mesh| train::run(&config, &text, mesh)).map(drop)
    })
}
