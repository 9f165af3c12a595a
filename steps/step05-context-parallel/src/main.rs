//! The program: reads settings and text, starts the ranks.

use cli::{Program, Start};
use comm::Layout;
use std::process::ExitCode;
use step05::{text, train};

fn main() -> ExitCode {
    let layout = Layout { cp: 2, ..Layout::default() };
    let program = Program { step: 5, about: "sequences split over ranks", layout };
    cli::main(program, text::open, |Start { config, launch, .. }, text| {
        launch::launch(&launch, move |mesh| train::run(&config, &text, mesh)).map(drop)
    })
}
