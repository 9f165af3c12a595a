use cli::Program;
use comm::Layout;
use std::process::ExitCode;

fn main() -> ExitCode {
    let layout = Layout { tp: 2, ..Layout::default() };
    let program = Program { step: 3, about: "matrices split over ranks", layout };
    cli::main(program, |config| {
        launch::launch(&config.launch(), move |mesh| step03::train::run(&config, mesh)).map(drop)
    })
}
