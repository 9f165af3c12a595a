//! Everything that a training run computes, under Hugging Face names.

use anyhow::{Context, Result, bail};
use checkpoint::Placement;
use cli::TrainConfig;
use comm::{Coords, Mesh};
use report::{StepStats, Trace};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

use crate::steps::{Ready, Step, parse};

/// Whole tensors, however the run had split them, by Hugging Face name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Where it is set in the environment, rank 0 prints [`TRAINING`] after its first step.
pub const TELL: &str = "PARITY_TELL";
/// What rank 0 prints then.
pub const TRAINING: &str = "a step is done";

/// What one rank saw of a run.
pub struct Record {
    /// Its number in the world.
    pub rank: usize,
    /// Its place in the layout.
    pub coords: Coords,
    /// What each step reported.
    pub stats: Vec<StepStats>,
    /// After each update: the gradients it used (summed and clipped), as much of them as
    /// this rank holds.
    pub grads: Vec<Tensors>,
    /// After each update: the weights it left.
    pub weights: Vec<Tensors>,
    /// Of each parameter, who holds which part.
    pub places: BTreeMap<String, Place>,
}

/// A tensor's whole shape, and which ranks hold which part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The shape of the whole.
    pub global_shape: Vec<i64>,
    /// Over the ranks of a tp group.
    pub tp: Placement,
    /// Over the stages.
    pub pp: Placement,
}

impl Place {
    /// Of what all ranks have: of a number, `[]`.
    fn everywhere() -> Self {
        Self { global_shape: vec![], tp: Placement::Replicate, pp: Placement::Replicate }
    }
}

/// A rank's part of a parameter, after an update.
pub struct LocalParameter {
    /// Its Hugging Face name.
    pub name: String,
    /// The part of it that the rank holds.
    pub weight: Tensor,
    /// The gradient of that part.
    pub grad: Tensor,
    /// Which part it is.
    pub place: Place,
}

/// A step's trainer, as the harness drives it.
pub trait Training {
    /// One optimiser step over the next global batch.
    fn step(&mut self) -> Result<StepStats>;
    /// What this rank holds.
    fn parameters(&self) -> Vec<LocalParameter>;
}

macro_rules! training {
    // Steps before tensor parallelism: every rank has all.
    ($step:ident, $trainer:ty) => {
        training!($step, $trainer, |p: &$step::layers::Parameter| Place {
            global_shape: p.tensor.size(),
            ..Place::everywhere()
        });
    };
    // Those before pipelines: whatever a rank has, it has for the only stage.
    ($step:ident, $trainer:ty, tp) => {
        training!($step, $trainer, |p: &$step::layers::Parameter| Place {
            global_shape: p.global_shape.clone(),
            tp: p.tp,
            pp: Placement::Alone,
        });
    };
    ($step:ident, $trainer:ty, tp, pp) => {
        training!($step, $trainer, |p: &$step::layers::Parameter| Place {
            global_shape: p.global_shape.clone(),
            tp: p.tp,
            pp: p.pp,
        });
    };
    ($step:ident, $trainer:ty, $place:expr) => {
        impl Training for $trainer {
            fn step(&mut self) -> Result<StepStats> {
                self.step()
            }

            fn parameters(&self) -> Vec<LocalParameter> {
                let local = |p: &$step::layers::Parameter| LocalParameter {
                    name: p.name.clone(),
                    weight: p.tensor.detach(),
                    grad: p.tensor.grad(),
                    place: $place(p),
                };
                self.model.parameters().iter().map(local).collect()
            }
        }
    };
}
training!(step01, step01::train::Trainer);
training!(step02, step02::train::Trainer<'_>);
training!(step07, step07::train::Trainer<'_>, tp, pp);
training!(step06, step06::train::Trainer<'_>, tp, pp);
training!(step05, step05::train::Trainer<'_>, tp, pp);
training!(step04, step04::train::Trainer<'_>, tp, pp);
training!(step03, step03::train::Trainer<'_>, tp);

impl Record {
    /// Trains `steps` steps and keeps everything.
    pub fn take(
        rank: usize,
        coords: Coords,
        steps: usize,
        trainer: &mut (impl Training + ?Sized),
    ) -> Result<Self> {
        let (stats, grads, weights, places) = (vec![], vec![], vec![], BTreeMap::new());
        let mut record = Self { rank, coords, stats, grads, weights, places };
        for _ in 0..steps {
            record.stats.push(trainer.step()?);
            if rank == 0 && record.stats.len() == 1 && std::env::var_os(TELL).is_some() {
                println!("{TRAINING}");
            }
            let (mut grads, mut weights) = (Tensors::new(), Tensors::new());
            for LocalParameter { name, weight, grad, place } in trainer.parameters() {
                grads.insert(name.clone(), grad.copy());
                weights.insert(name.clone(), weight.copy());
                record.places.insert(name, place);
            }
            record.grads.push(grads);
            record.weights.push(weights);
        }
        Ok(record)
    }

    /// Every number of the record as one flat list of tensors, by a name that says what it is.
    pub fn tensors(&self) -> Tensors {
        self.labelled().map(|(label, _, tensor)| (label, tensor)).collect()
    }

    /// Label, who holds which part, tensor.
    pub(crate) fn labelled(&self) -> impl Iterator<Item = (String, Place, Tensor)> {
        let first = self.stats.first().map_or(1, |stats| stats.step); // not 1 after a checkpoint
        let numbers = self.stats.iter().flat_map(|stats| {
            let StepStats { step, loss, grad_norm, lr, .. } = *stats;
            let numbers = [("loss", loss), ("gradient norm", grad_norm), ("lr", lr)];
            let everywhere = Place::everywhere;
            numbers.map(|(what, n)| (format!("step {step}: {what}"), everywhere(), Tensor::from(n)))
        });
        let lists = [("gradient", &self.grads), ("weight", &self.weights)];
        let tensors = lists.into_iter().flat_map(move |(kind, steps)| {
            (first..).zip(steps).flat_map(move |(step, tensors)| {
                tensors.iter().map(move |(name, tensor)| {
                    let label = format!("step {step}: {kind} of {name}");
                    (label, self.places[name].clone(), tensor.shallow_clone())
                })
            })
        });
        numbers.chain(tensors)
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

/// Trains `step` under these flags and returns the records of the ranks in this
/// process, in rank order.
pub fn record(step: u8, flags: &[String]) -> Result<Vec<Record>> {
    record_with(step, flags, |_, _| ())
}

/// As [`record`], with a last change to every rank's configuration: (its `[train]`, rank).
pub fn record_with(
    step: u8,
    flags: &[String],
    change: impl Fn(&mut TrainConfig, usize) + Send + Sync + 'static,
) -> Result<Vec<Record>> {
    let steps = train_config(step, flags)?.steps;
    train_with(step, flags, change, move |rank, coords, trainer| {
        Record::take(rank, coords, steps, trainer)
    })
}

/// Has every rank make its trainer and hand it to `drive`, with its rank and place. Returns what
/// `drive` did on the ranks in this process, in rank order.
pub fn train_with<T: Send + 'static>(
    step: u8,
    flags: &[String],
    change: impl Fn(&mut TrainConfig, usize) + Send + Sync + 'static,
    drive: impl Fn(usize, Coords, &mut dyn Training) -> Result<T> + Send + Sync + 'static,
) -> Result<Vec<T>> {
    macro_rules! launch {
        ($step:ident) => {{
            let config = parse::<$step::config::Config>(flags)?;
            launch::launch(&config.launch(), move |mesh: &Mesh| {
                let config = changed(&config, |train| change(train, mesh.rank));
                let mut trainer = $step::train::Trainer::new(&config, config.texts(), mesh)?;
                drive(mesh.rank, mesh.coords, &mut trainer)
            })
        }};
    }
    match step {
        1 => {
            tch::set_num_threads(1); // as every rank of a larger world
            let config = parse::<step01::config::Config>(flags)?;
            let config = changed(&config, |train| change(train, 0));
            let texts = config.texts();
            let mut trainer = step01::train::Trainer::new(&config, texts, Trace::off())?;
            Ok(vec![drive(0, Coords::default(), &mut trainer)?])
        }
        2 => launch!(step02),
        3 => launch!(step03),
        4 => launch!(step04),
        5 => launch!(step05),
        6 => launch!(step06),
        7 => launch!(step07),
        _ => bail!("there is no step {step}"),
    }
}

fn changed<C: Step>(config: &Ready<C>, change: impl FnOnce(&mut TrainConfig)) -> Ready<C> {
    let mut config = config.clone();
    change(config.train_mut());
    config
}

/// How `step` learns under these flags.
pub fn train_config(step: u8, flags: &[String]) -> Result<TrainConfig> {
    Ok(match step {
        1 => parse::<step01::config::Config>(flags)?.train.clone(),
        2 => parse::<step02::config::Config>(flags)?.train.clone(),
        3 => parse::<step03::config::Config>(flags)?.train.clone(),
        4 => parse::<step04::config::Config>(flags)?.train.clone(),
        5 => parse::<step05::config::Config>(flags)?.train.clone(),
        6 => parse::<step06::config::Config>(flags)?.train.clone(),
        7 => parse::<step07::config::Config>(flags)?.train.clone(),
        _ => bail!("there is no step {step}"),
    })
}

/// The dtype in which a record's tensors are compared.
pub(crate) const EXACT: Kind = Kind::Double;
