use cli::Program;
use comm::Layout;
use std::process::ExitCode;

fn main() -> ExitCode {
    let layout = Layout { cp: 2, ..Layout::default() };
    let program = Program { step: 5, about: "sequences split over ranks", layout };
    cli::main(program, |config| {
        launch::launch(&config.launch(), move |mesh| step05::train::run(&config, mesh)).map(drop)
    })
}
