//! The steps, as tests start them.

use anyhow::Result;
use cli::{Program, Settings, Start, TrainConfig};
use comm::Layout;
use data::{Batches, Dataset};
use launch::Launch;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A step's settings, and what a test must know of the step.
pub trait Step: Settings + Send + Sync + 'static {
    /// From 1 to 7.
    const NUMBER: u8;
    /// What it reads.
    type Texts: Clone + Send + Sync + 'static;

    /// Opens what it reads; `None` for a run that reads nothing.
    fn open(start: &mut Start<Self>) -> Result<Option<Self::Texts>>;

    /// The batches that replica `dp_rank` of `dp` learns.
    fn batches(&self, texts: &Self::Texts, dp_rank: usize, dp: usize) -> Result<Batches>;

    /// How it learns, for tests that change it.
    fn train_mut(&mut self) -> &mut TrainConfig;
}

macro_rules! step {
    ($number:literal, $step:ident, $texts:ty, $open:expr, $batches:expr) => {
        impl Step for $step::config::Config {
            const NUMBER: u8 = $number;
            type Texts = $texts;

            fn open(start: &mut Start<Self>) -> Result<Option<Self::Texts>> {
                $open(start)
            }

            fn batches(&self, texts: &$texts, dp_rank: usize, dp: usize) -> Result<Batches> {
                $batches(self, texts, dp_rank, dp)
            }

            fn train_mut(&mut self) -> &mut TrainConfig {
                &mut self.train
            }
        }
    };
}

type Text = Arc<Dataset>;
step!(1, step01, Text, |start| step01::text::open(start).map(Some), step01::text::batches);
step!(2, step02, Text, |start| step02::text::open(start).map(Some), step02::text::batches);
step!(3, step03, Text, |start| step03::text::open(start).map(Some), step03::text::batches);
step!(4, step04, Text, |start| step04::text::open(start).map(Some), step04::text::batches);
step!(5, step05, Text, |start| step05::text::open(start).map(Some), step05::text::batches);
step!(
    6,
    step06,
    step06::held_out::Texts,
    step06::held_out::open,
    |config, texts: &step06::held_out::Texts, dp_rank, dp| {
        step06::text::batches(config, &texts.training, dp_rank, dp)
    }
);
step!(
    7,
    step07,
    step07::held_out::Texts,
    step07::held_out::open,
    |config, texts: &step07::held_out::Texts, dp_rank, dp| {
        step07::text::batches(config, &texts.training, dp_rank, dp)
    }
);

/// A step that is ready to start: its settings, and what it reads.
#[derive(Clone)]
pub struct Ready<C: Step> {
    start: Start<C>,
    texts: Option<C::Texts>,
}

impl<C: Step> Ready<C> {
    /// How its ranks are started.
    pub fn launch(&self) -> Launch {
        self.start.launch.clone()
    }

    /// What it reads.
    #[track_caller]
    pub fn texts(&self) -> &C::Texts {
        self.texts.as_ref().expect("a dry run reads nothing")
    }

    /// The batches that replica `dp_rank` of `dp` learns.
    pub fn batches(&self, dp_rank: usize, dp: usize) -> Result<Batches> {
        Step::batches(&self.start.config, self.texts(), dp_rank, dp)
    }
}

impl<C: Step> Deref for Ready<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.start.config
    }
}

impl<C: Step> DerefMut for Ready<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.start.config
    }
}

/// The step under these flags. Where they say nothing of the layout, it is one rank.
pub fn parse<C: Step>(flags: &[String]) -> Result<Ready<C>> {
    let program = Program { step: C::NUMBER, about: "", layout: Layout::default() };
    let flags = flags.iter().cloned();
    let mut start = cli::parse(&program, flags, |name| std::env::var(name).ok())?;
    let texts = C::open(&mut start)?;
    Ok(Ready { start, texts })
}
