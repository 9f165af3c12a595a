use cli::Program;
use comm::Layout;
use std::process::ExitCode;

fn main() -> ExitCode {
    let program = Program { step: 1, about: "a Llama on one device", layout: Layout::default() };
    cli::main(program, |config| {
        config.launch().set_intra_op_threads();
        step01::train::run(&config)
    })
}
