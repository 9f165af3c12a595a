use cli::Program;
use comm::Layout;
use std::process::ExitCode;

fn main() -> ExitCode {
    let layout = Layout { dp: 2, ..Layout::default() };
    let program = Program { step: 2, about: "replicas that sum their gradients", layout };
    cli::main(program, |config| {
        launch::launch(&config.launch(), move |mesh| step02::train::run(&config, mesh)).map(drop)
    })
}
