//! Samples that are read once each: held-out ones, over which a loss is a mean.

use super::{BatchOptions, Batches, MicroBatch};
use anyhow::Result;

impl Batches {
    /// The samples of the first `global_batches` global batches, or all samples if there are fewer.
    pub fn samples_in(&self, global_batches: usize) -> usize {
        global_batches.saturating_mul(self.options.global_batch).min(self.dataset.samples())
    }

    /// This replica's contiguous share of the first `samples` samples, which are at most as many as
    /// there are. All replicas together read each of them once. Shares differ by one sample at
    /// most: the last micro-batch of a replica may be smaller than the others, and if there are
    /// fewer samples than replicas, some have no micro-batch.
    ///
    /// # Errors
    /// Those of [`crate::Dataset::sample`].
    pub fn once(&self, samples: usize) -> Result<Vec<MicroBatch>> {
        let BatchOptions { dp, dp_rank, micro_batch, .. } = self.options;
        let share = samples * dp_rank / dp..samples * (dp_rank + 1) / dp;
        let share: Vec<usize> = share.map(|position| self.at(position)).collect();
        share.chunks(micro_batch).map(|chunk| self.batch(chunk)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dataset;
    use proptest::prelude::*;
    use std::sync::Arc;
    use tch::Device;

    proptest! {
        #[test]
        fn all_replicas_together_read_each_sample_once(
            samples in 1usize..20, dp in 1usize..5, micro_batch in 1usize..4,
            accumulation in 1usize..3, global_batches in 1usize..5, shuffle_seed: Option<u64>,
        ) {
            // Token p is p, so a sample of one token tells its number.
            let tokens = (0..=samples as u32).collect();
            let dataset = Arc::new(Dataset::from_tokens(tokens, 1 << 20, 1).unwrap());
            let global_batch = dp * micro_batch * accumulation;
            let (mut read, mut shares) = (vec![], vec![]);
            let asked = samples.min(global_batches * global_batch);
            for dp_rank in 0..dp {
                let device = Device::Cpu;
                let options = BatchOptions {
                    global_batch, micro_batch, dp_rank, dp, shuffle_seed, device,
                };
                let batches = Batches::new(dataset.clone(), options).unwrap();
                prop_assert_eq!(batches.samples_in(global_batches), asked);
                let before = read.len();
                let micro_batches = batches.once(asked).unwrap();
                for (i, MicroBatch { inputs, targets }) in micro_batches.iter().enumerate() {
                    let rows = inputs.size()[0] as usize;
                    let is_last = i + 1 == micro_batches.len();
                    prop_assert!(rows == micro_batch || (is_last && 0 < rows && rows < micro_batch));
                    prop_assert_eq!(&(inputs + 1), targets);
                    read.extend(Vec::<i64>::try_from(inputs.view(-1)).unwrap());
                }
                shares.push(read.len() - before);
            }
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
            if shuffle_seed.is_none() {
                prop_assert_eq!(&read, &(0..asked as i64).collect::<Vec<_>>(), "the first ones");
            }
            read.sort();
            read.dedup();
            prop_assert_eq!(read.len(), asked);
        }
    }
}
