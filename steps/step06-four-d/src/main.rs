use cli::Program;
use comm::Layout;
use std::process::ExitCode;
use step06::pipeline_parallel::stages;

fn main() -> ExitCode {
    let layout = Layout { dp: 2, pp: 2, cp: 2, tp: 2 };
    let program = Program { step: 6, about: "the full 4D trainer", layout };
    cli::main(program, |config| {
        if config.run.dry_run {
            let (seq_len, pp) = (config.data.seq_len, config.parallel.layout.pp);
            return plan::print(&config, stages(&config.model, seq_len, pp));
        }
        comm::launch(&config.launch(), move |mesh| step06::train::run(&config, mesh)).map(drop)
    })
}
