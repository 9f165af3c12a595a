//! A run that can start.

use crate::agreement::phrases;
use crate::keys::Keys;
use crate::layers::{defaults, merge};
use crate::{LauncherName, Program, Refusal, RunConfig, Settings, args, build, device, validate};
use data::Dataset;
use launch::{Launch, Launcher};
use std::ffi::OsString;
use std::time::Duration;

/// A run that can start: its settings, checked, and what it takes to start its ranks.
#[derive(Clone, Debug)]
pub struct Start<C> {
    /// The step's settings.
    pub config: C,
    /// How to start the ranks, with what they must agree on.
    pub launch: Launch,
    /// What the user should know before the run starts, a sentence each.
    pub notes: Vec<String>,
}

/// The settings that `args` (without the program's name) and the environment ask for, checked.
/// Besides them it reads only the files that they name, and no data.
///
/// # Errors
/// The sentence that refuses them, or the text that `--help` asks for.
pub fn parse<C: Settings>(
    program: &Program,
    args: impl IntoIterator<Item = impl Into<OsString>>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Start<C>, Refusal> {
    let keys = Keys::of::<C>();
    let defaults = defaults(program, &keys)?;
    let flags = args::parse::<C>(program, &keys, &defaults, args)?;
    let file = flags.config.clone();
    let values = merge(program, &keys, defaults, flags)?;
    let (mut config, notes) = build::build::<C>(&keys, values)?;
    let dry_run = config.extras().dry_run;
    let launcher = launcher(config.common().run, dry_run, &env);
    validate::validate(&config, launcher, file.as_deref(), &env)?;
    if !dry_run {
        let (model, mut run) = (config.common().model.clone(), config.common().run.clone());
        device::choose(&mut run, config.layout(), launcher, &env)?; // a dry run needs none
        config.settle(model, run);
    }
    let run = config.common().run;
    let launch = Launch {
        layout: config.layout(),
        agreement: phrases(&keys, &config),
        launcher,
        threads_per_rank: run.threads_per_rank,
        timeout: Duration::from_secs_f64(run.timeout),
        trace: run.trace.is_some(),
        gpu: run.gpu_of_rank,
        ..Launch::default()
    };
    Ok(Start { config, launch, notes })
}

/// The settings of a step by table and name: flags, and what a configuration file alone can set.
pub fn names<C: Settings>() -> Vec<(String, String)> {
    Keys::of::<C>().iter().map(|key| (key.table.clone(), key.name.clone())).collect()
}

fn launcher(run: &RunConfig, dry_run: bool, env: impl Fn(&str) -> Option<String>) -> Launcher {
    let cuda = run.device == crate::DeviceName::Cuda;
    match run.launcher {
        None if dry_run => Launcher::Threads, // it starts nothing
        None if cuda => Launcher::detect(env).unwrap_or(Launcher::Processes),
        None => Launcher::detect(env).unwrap_or(Launcher::Threads),
        Some(LauncherName::Threads) => Launcher::Threads,
        // The ranks that it starts read the same settings, and find their world described.
        Some(LauncherName::Processes) if Launcher::has_started(env) => Launcher::Env,
        Some(LauncherName::Processes) => Launcher::Processes,
        Some(LauncherName::Env) => Launcher::Env,
    }
}

impl<C: Settings> Start<C> {
    /// Says what `setting`, a name such as `data`, turned out to be: ranks compare its number of
    /// samples and what some of them say, for a file may have another path on another host.
    pub fn reads(&mut self, setting: &str, text: &Dataset) {
        let (samples, fingerprint) = (text.samples(), text.fingerprint());
        self.launch
            .agreement
            .push(format!("samples of {setting}: {samples}, with fingerprint {fingerprint:016x}"));
        if setting == "data" {
            self.notes.extend(self.note_on_padding(text));
        }
    }

    /// transformers never changes the embedding of the token that pads, and many models pad with
    /// one that texts end with.
    fn note_on_padding(&self, text: &Dataset) -> Option<String> {
        let id = self.config.common().model.token_ids.get("pad_token_id")?.as_i64()?;
        text.has(id).then(|| {
            format!(
                "pad_token_id is {id}, which occurs in the data: it is trained like any other token, where \
                 transformers would leave its embedding as it is"
            )
        })
    }
}
