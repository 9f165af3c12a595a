//! Everything that a training run computes, under Hugging Face names.

use anyhow::{Context, Result, bail};
use cli::{Config, Program};
use comm::{Layout, Mesh};
use report::{StepStats, Trace};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Whole tensors, however the run had split them, by Hugging Face name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What one rank saw of a run.
pub struct Record {
    pub rank: usize,
    pub stats: Vec<StepStats>,
    /// After each update: the gradients it used (summed and clipped).
    pub grads: Vec<Tensors>,
    /// After each update: the weights it left.
    pub weights: Vec<Tensors>,
}

/// A step's trainer, as the harness drives it.
pub trait Training {
    fn step(&mut self) -> Result<StepStats>;
    /// Whole parameters, each with its whole gradient in `.grad()` or beside it: (name, weight,
    /// gradient).
    fn full(&self) -> Result<Vec<(String, Tensor, Tensor)>>;
}

/// A trainer whose every rank holds every parameter whole.
macro_rules! unsplit {
    ($trainer:ty) => {
        impl Training for $trainer {
            fn step(&mut self) -> Result<StepStats> {
                self.step()
            }

            fn full(&self) -> Result<Vec<(String, Tensor, Tensor)>> {
                let whole = |(name, p): &(String, Tensor)| (name.clone(), p.detach(), p.grad());
                Ok(self.model.parameters().iter().map(whole).collect())
            }
        }
    };
}
unsplit!(step01::train::Trainer);
unsplit!(step02::train::Trainer<'_>);

impl Record {
    fn take(rank: usize, steps: usize, mut trainer: impl Training) -> Result<Self> {
        let mut record = Self { rank, stats: vec![], grads: vec![], weights: vec![] };
        for _ in 0..steps {
            record.stats.push(trainer.step()?);
            let (mut grads, mut weights) = (Tensors::new(), Tensors::new());
            for (name, weight, grad) in trainer.full()? {
                grads.insert(name.clone(), grad.copy());
                weights.insert(name, weight.copy());
            }
            record.grads.push(grads);
            record.weights.push(weights);
        }
        Ok(record)
    }

    /// Every number of the record as one flat list of tensors, by a name that says what it is.
    pub fn tensors(&self) -> Tensors {
        let mut all = Tensors::new();
        for (step, stats) in (1..).zip(&self.stats) {
            let StepStats { loss, grad_norm, lr, .. } = *stats;
            for (what, number) in [("loss", loss), ("gradient norm", grad_norm), ("lr", lr)] {
                all.insert(format!("step {step}: {what}"), Tensor::from(number));
            }
        }
        for (kind, steps) in [("gradient", &self.grads), ("weight", &self.weights)] {
            for (step, tensors) in (1..).zip(steps) {
                for (name, tensor) in tensors {
                    all.insert(format!("step {step}: {kind} of {name}"), tensor.shallow_clone());
                }
            }
        }
        all
    }

    /// Writes [`Record::tensors`] to `DIR/rank-N.safetensors`.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let tensors: Vec<(String, Tensor)> = self.tensors().into_iter().collect();
        let path = dir.join(format!("rank-{}.safetensors", self.rank));
        Tensor::write_safetensors(&tensors, &path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads what [`Record::write`] wrote for `rank`.
    pub fn read(dir: &Path, rank: usize) -> Result<Tensors> {
        let path = dir.join(format!("rank-{rank}.safetensors"));
        let tensors = Tensor::read_safetensors(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(tensors.into_iter().collect())
    }
}

/// The configuration of `step` under these flags.
pub fn parse(step: u8, flags: &[String]) -> Result<Config> {
    let program = Program { step, about: "", layout: Layout::default() };
    Ok(cli::parse(&program, flags.iter().cloned(), |name| std::env::var(name).ok())?)
}

/// Trains `step` under these flags and returns the records of the ranks in this process, in rank
/// order.
pub fn record(step: u8, flags: &[String]) -> Result<Vec<Record>> {
    record_with(step, flags, |_, _| ())
}

/// As [`record`], with a last change to every rank's configuration: (configuration, rank).
pub fn record_with(
    step: u8,
    flags: &[String],
    change: impl Fn(&mut Config, usize) + Send + Sync + 'static,
) -> Result<Vec<Record>> {
    let config = parse(step, flags)?;
    let steps = config.train.steps;
    let launch = config.launch();
    let config = move |rank| {
        let mut config = config.clone();
        change(&mut config, rank);
        config
    };
    match step {
        1 => {
            tch::set_num_threads(1); // as every rank of a larger world
            let trainer = step01::train::Trainer::new(&config(0), Trace::off())?;
            Ok(vec![Record::take(0, steps, trainer)?])
        }
        2 => comm::launch(&launch, move |mesh: &Mesh| {
            let trainer = step02::train::Trainer::new(&config(mesh.rank), mesh)?;
            Record::take(mesh.rank, steps, trainer)
        }),
        _ => bail!("there is no step {step}"),
    }
}

/// The dtype in which a record's tensors are compared.
pub(crate) const EXACT: Kind = Kind::Double;
