//! A run's settings: flags over a TOML file over `configs/tiny.toml`, all of them checked
//! before any rank is started, so that settings that cannot work end in one sentence, and not
//! in a heap of failures.
//!
//! A step declares its settings as structs of flags ([`Settings`]), of which those that all
//! steps have are here ([`DataConfig`], [`TrainConfig`], [`RunConfig`]). From there to a run
//! that can [`Start`]:
//!
//! * `keys` reads off those structs what each setting is called, where it stands and what it may be.
//! * `args` and `layers` read flags, file and defaults, and lay them over each other.
//! * `build` makes the step's structs of the result, and `validate` refuses what cannot work.
//! * `agreement` says what ranks compare when they meet.
//! * [`main()`] is the `main` of every step.

#![warn(missing_docs)]

mod agreement;
mod args;
mod build;
mod common;
mod device;
mod figures;
mod gpu;
mod keys;
mod kinds;
mod later;
mod layers;
mod program;
mod resumed;
mod settings;
mod start;
mod validate;
mod words;

pub use common::{DataConfig, DeviceName, Dtype, LauncherName, RunConfig, TrainConfig};
pub use figures::{flops_per_token, report_options, sampling};
pub use gpu::{Figures, GPUS_PER_NODE, Gpu};
pub use later::{Later, later_than};
pub use program::{Program, Refusal, main};
pub use resumed::{changes, progress, tell_changes};
pub use settings::{Common, Extras, Settings};
pub use start::{Start, names, parse};
pub use validate::prepare_outputs;
pub use words::{shortened, whether_given, word};
