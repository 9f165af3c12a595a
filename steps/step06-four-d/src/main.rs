use cli::Program;
use comm::Layout;
use std::process::ExitCode;

fn main() -> ExitCode {
    let layout = Layout { dp: 2, pp: 2, cp: 2, tp: 2 };
    let program = Program { step: 6, about: "the full 4D trainer", layout };
    cli::main(program, |config| {
        if config.run.dry_run {
            return plan::print(&config, step06::dry_run::trainer(&config));
        }
        launch::launch(&config.launch(), move |mesh| step06::train::run(&config, mesh)).map(drop)
    })
}
