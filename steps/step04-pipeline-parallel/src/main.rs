use cli::Program;
use comm::Layout;
use std::process::ExitCode;

fn main() -> ExitCode {
    let layout = Layout { pp: 2, ..Layout::default() };
    let program = Program { step: 4, about: "layers split into stages", layout };
    cli::main(program, |config| {
        launch::launch(&config.launch(), move |mesh| step04::train::run(&config, mesh)).map(drop)
    })
}
