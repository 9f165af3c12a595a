//! What one device computes: the reference of every lesson from the second on.

use crate::model::Model;
use crate::runs::{Held, Updates};
use crate::worlds::{alone, start};
use anyhow::Result;
use checkpoint::Region;
use data::MicroBatch;
use report::Trace;
use step01::config::Config;
use step01::train::Trainer;

/// `count` updates of step01 on these micro-batches, the same for each.
///
/// # Panics
/// If step01 is not whole itself.
pub fn one_device(model: Model, run: &str, micro_batches: &[MicroBatch], count: usize) -> Updates {
    let updates = alone(|| -> Result<Updates> {
        let mut start = start::<Config>(1, &model.flags(run));
        let text = step01::text::open(&mut start)?;
        let mut trainer = Trainer::new(&start.config, &text, Trace::off())?;
        let update = || {
            let stats = trainer.update(micro_batches)?;
            let held = trainer.model.parameters().iter().map(|p| Held {
                name: p.name.clone(),
                weight: p.tensor.shallow_clone(),
                grad: p.tensor.grad(),
                region: Region::whole(&p.tensor.size()),
            });
            Ok((stats, held.collect()))
        };
        Updates::take("one device".into(), count, update)
    });
    updates.unwrap_or_else(|error| panic!("step01 cannot be trained: {error:#}"))
}
