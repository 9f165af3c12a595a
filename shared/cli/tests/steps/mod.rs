//! The steps, as far as their settings go.
#![allow(dead_code)] // each test file uses its part

use anyhow::Result;
use checkpoint::LlamaConfig;
use cli::{DataConfig, Program, Refusal, RunConfig, Settings, Start, TrainConfig};
use comm::Layout;
use launch::Launch;
use std::path::PathBuf;

pub use step06::config::Config;

/// A step, in its own layout.
pub fn usual(step: u8) -> Program {
    let one = Layout::default();
    let layout = match step {
        2 => Layout { dp: 2, ..one },
        3 => Layout { tp: 2, ..one },
        4 => Layout { pp: 2, ..one },
        5 => Layout { cp: 2, ..one },
        6 => Layout { dp: 2, pp: 2, cp: 2, tp: 2 },
        _ => one,
    };
    Program { step, about: "what this step is about", layout }
}

/// What a step makes of its arguments, as far as all steps have the same.
#[derive(Debug)]
pub struct Parsed {
    pub model: LlamaConfig,
    pub hf_model: Option<PathBuf>,
    pub data: DataConfig,
    pub train: TrainConfig,
    pub run: RunConfig,
    pub launch: Launch,
    pub notes: Vec<String>,
    /// All settings, also the step's own.
    pub shown: String,
}

impl<C: Settings> From<Start<C>> for Parsed {
    fn from(start: Start<C>) -> Self {
        let common = start.config.common();
        Self {
            model: common.model.clone(),
            hf_model: common.hf_model.map(PathBuf::from),
            data: common.data.clone(),
            train: common.train.clone(),
            run: common.run.clone(),
            shown: format!("{:?}", start.config),
            launch: start.launch,
            notes: start.notes,
        }
    }
}

fn opened<C: Settings, T>(
    program: &Program,
    args: &[String],
    env: impl Fn(&str) -> Option<String>,
    open: impl FnOnce(&mut Start<C>) -> Result<T>,
) -> Result<Start<C>, Refusal> {
    let mut start = cli::parse(program, args, env)?;
    open(&mut start)?;
    Ok(start)
}

/// All that a step's `main` may refuse.
pub fn parse(
    program: &Program,
    args: impl IntoIterator<Item = impl Into<String>>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Parsed, Refusal> {
    let args: Vec<String> = args.into_iter().map(Into::into).collect();
    let (program, args) = (program, &args[..]);
    Ok(match program.step {
        1 => opened(program, args, env, step01::text::open)?.into(),
        2 => opened(program, args, env, step02::text::open)?.into(),
        3 => opened(program, args, env, step03::text::open)?.into(),
        4 => opened(program, args, env, step04::text::open)?.into(),
        5 => opened(program, args, env, step05::text::open)?.into(),
        6 => opened(program, args, env, step06::held_out::open)?.into(),
        _ => opened(program, args, env, step07::held_out::open)?.into(),
    })
}

/// A program whose layout is one rank.
pub fn program(step: u8) -> Program {
    Program { step, about: "", layout: Layout::default() }
}

/// What step06 makes of its arguments on one rank.
pub fn step06(args: impl IntoIterator<Item = impl Into<String>>) -> Result<Start<Config>, Refusal> {
    let args: Vec<String> = args.into_iter().map(Into::into).collect();
    opened(&program(6), &args, |_| None, step06::held_out::open)
}
