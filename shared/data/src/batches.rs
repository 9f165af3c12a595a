//! Which samples an optimiser step reads, and which of them this rank does.

mod once;

use crate::Dataset;
use crate::random::Random;
use anyhow::{Result, ensure};
use std::sync::{Arc, Mutex, PoisonError};
use tch::{Device, Tensor};

/// Which part of every batch a rank reads.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    /// Sequences of one optimiser step, over all replicas.
    pub global_batch: usize,
    /// Sequences that go through the model at once.
    pub micro_batch: usize,
    /// This rank's replica, below `dp`.
    pub dp_rank: usize,
    /// Number of replicas.
    pub dp: usize,
    /// If set, the samples of every epoch are read in an order of its own, drawn from this seed.
    pub shuffle_seed: Option<u64>,
    /// Where the batches are used.
    pub device: Device,
}

/// Sequences for one forward and backward pass, on the device that was asked for.
#[derive(Debug)]
pub struct MicroBatch {
    /// i64 `[micro_batch, seq]`
    pub inputs: Tensor,
    /// i64 `[micro_batch, seq]`: the token after each input.
    pub targets: Tensor,
}

/// The batches of one replica. They depend on the step alone, so any layout and any resumed run
/// reads the same ones.
pub struct Batches {
    dataset: Arc<Dataset>,
    options: BatchOptions,
    /// The epoch permuted last, and its order.
    order: Mutex<Option<(u64, Arc<Vec<usize>>)>>,
}

impl Batches {
    /// # Errors
    /// If a size is 0, or the global batch does not divide into whole micro-batches on every
    /// replica.
    pub fn new(dataset: impl Into<Arc<Dataset>>, options: BatchOptions) -> Result<Self> {
        let BatchOptions { global_batch, micro_batch, dp_rank, dp, .. } = options;
        ensure!(dp_rank < dp, "dp rank {dp_rank} is not below dp {dp}");
        ensure!(
            global_batch > 0 && micro_batch > 0 && global_batch % (dp * micro_batch) == 0,
            "global-batch is {global_batch}, but must be a multiple of micro-batch {micro_batch} × dp {dp}"
        );
        Ok(Self { dataset: dataset.into(), options, order: Mutex::new(None) })
    }

    /// What they are taken from.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// This replica's part of optimiser step `t`, counted from 0, in the order it is to be read.
    ///
    /// # Errors
    /// Those of [`Dataset::sample`].
    pub fn step(&self, t: usize) -> Result<Vec<MicroBatch>> {
        self.samples(t).chunks(self.options.micro_batch).map(|chunk| self.batch(chunk)).collect()
    }

    /// The samples of this replica in step `t`: of `[t·G, (t+1)·G)`, counted through all epochs,
    /// its contiguous share.
    fn samples(&self, t: usize) -> Vec<usize> {
        let BatchOptions { global_batch, dp, dp_rank, .. } = self.options;
        let share = global_batch / dp;
        let start = t * global_batch + dp_rank * share;
        (start..start + share).map(|position| self.at(position)).collect()
    }

    fn at(&self, position: usize) -> usize {
        let samples = self.dataset.samples();
        let (epoch, index) = (position / samples, position % samples);
        match self.options.shuffle_seed {
            Some(seed) => self.order(seed, epoch as u64)[index],
            None => index,
        }
    }

    fn order(&self, seed: u64, epoch: u64) -> Arc<Vec<usize>> {
        let mut last = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((of, order)) if *of == epoch => order.clone(),
            _ => {
                let samples = self.dataset.samples();
                let order = Arc::new(Random::new(seed, epoch).permutation(samples));
                *last = Some((epoch, order.clone()));
                order
            }
        }
    }

    fn batch(&self, samples: &[usize]) -> Result<MicroBatch> {
        let (rows, seq) = (samples.len() as i64, self.dataset.seq_len() as i64);
        let tokens: Result<Vec<_>> = samples.iter().map(|&i| self.dataset.sample(i)).collect();
        let tokens = Tensor::from_slice(&tokens?.concat()).view([rows, seq + 1]); // [micro_batch, seq + 1]
        let tokens = match self.options.device {
            Device::Cuda(gpu) => gpu::upload(&tokens, gpu)?,
            device => tokens.to_device(device),
        };
        Ok(MicroBatch {
            inputs: tokens.narrow(1, 0, seq).contiguous(), // [micro_batch, seq]
            targets: tokens.narrow(1, 1, seq).contiguous(), // [micro_batch, seq]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Token p of the dataset is p, so a sample tells where it starts.
    fn counting(samples: usize, seq_len: usize) -> Arc<Dataset> {
        let tokens: Vec<u32> = (0..=(samples * seq_len) as u32).collect();
        Arc::new(Dataset::from_tokens(tokens, 1 << 20, seq_len).unwrap())
    }

    /// The samples that all replicas read in step `t`, in rank order, as found in their tensors.
    fn union(dataset: &Arc<Dataset>, options: BatchOptions, t: usize) -> Vec<usize> {
        let seq = dataset.seq_len() as i64;
        let mut read = Vec::new();
        for dp_rank in 0..options.dp {
            let batches =
                Batches::new(dataset.clone(), BatchOptions { dp_rank, ..options }).unwrap();
            for MicroBatch { inputs, targets } in batches.step(t).unwrap() {
                assert_eq!(inputs.size(), [options.micro_batch as i64, seq]);
                assert_eq!(&inputs + 1, targets);
                let starts: Vec<i64> = inputs.select(1, 0).try_into().unwrap();
                read.extend(starts.into_iter().map(|start| (start / seq) as usize));
            }
        }
        read
    }

    proptest! {
        #[test]
        fn the_replicas_read_just_the_samples_of_the_step(
            samples in 1usize..40, seq_len in 1usize..6, dp in 1usize..5,
            micro_batch in 1usize..4, accumulation in 1usize..4, t in 0usize..9,
        ) {
            let dataset = counting(samples, seq_len);
            let global_batch = dp * micro_batch * accumulation;
            let options =
                BatchOptions { global_batch, micro_batch, dp_rank: 0, dp, shuffle_seed: None, device: Device::Cpu };
            let pinned: Vec<_> =
                (t * global_batch..(t + 1) * global_batch).map(|p| p % samples).collect();
            prop_assert_eq!(union(&dataset, options, t), pinned);
        }

        #[test]
        fn a_shuffled_epoch_reads_each_sample_once_in_an_order_no_layout_changes(
            steps in 1usize..6, seq_len in 1usize..4, half in 1usize..5, seed: u64,
        ) {
            let global_batch = 2 * half;
            let dataset = counting(steps * global_batch, seq_len);
            let epoch = |epoch: usize, dp: usize| -> Vec<usize> {
                let options = BatchOptions {
                    global_batch, micro_batch: 1, dp_rank: 0, dp, shuffle_seed: Some(seed),
                device: Device::Cpu,
                };
                (epoch * steps..(epoch + 1) * steps)
                    .flat_map(|t| union(&dataset, options, t))
                    .collect()
            };
            for e in 0..2 {
                let order = epoch(e, 1);
                prop_assert_eq!(&order, &epoch(e, 2));
                let mut sorted = order.clone();
                sorted.sort();
                prop_assert_eq!(sorted, (0..steps * global_batch).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_epoch_ends_with_its_last_sample_and_not_with_a_step() {
        for (samples, global_batch, dp) in [(10, 6, 1), (10, 6, 2), (10, 6, 3), (5, 12, 3)] {
            let dataset = counting(samples, 2);
            let options = BatchOptions {
                global_batch,
                micro_batch: 1,
                dp_rank: 0,
                dp,
                shuffle_seed: Some(7),
                device: Device::Cpu,
            };
            let read: Vec<_> = (0..10).flat_map(|t| union(&dataset, options, t)).collect();
            for (epoch, order) in read.chunks_exact(samples).enumerate() {
                let mut sorted = order.to_vec();
                sorted.sort();
                let each: Vec<_> = (0..samples).collect();
                assert_eq!(sorted, each, "epoch {epoch} in steps of {global_batch}, dp {dp}");
            }
        }
    }

    #[test]
    fn every_epoch_of_every_seed_has_its_own_order() {
        let dataset = counting(50, 1);
        let epoch = |seed, t| {
            let options = BatchOptions {
                global_batch: 50,
                micro_batch: 50,
                dp_rank: 0,
                dp: 1,
                shuffle_seed: Some(seed),
                device: Device::Cpu,
            };
            union(&dataset, options, t)
        };
        // Not even the next epoch of one seed and the first of the next.
        let orders: Vec<_> = (0..16).map(|i| epoch(i / 4, i as usize % 4)).collect();
        for (i, order) in orders.iter().enumerate() {
            assert!(!orders[..i].contains(order), "seed {}, epoch {}", i / 4, i % 4);
        }
        assert_eq!(epoch(1, 1), epoch(1, 1));
    }

    #[test]
    fn an_uneven_global_batch_is_refused() {
        let options = BatchOptions {
            global_batch: 12,
            micro_batch: 4,
            dp_rank: 0,
            dp: 2,
            shuffle_seed: None,
            device: Device::Cpu,
        };
        let error = Batches::new(counting(4, 2), options).err().unwrap().to_string();
        assert_eq!(error, "global-batch is 12, but must be a multiple of micro-batch 4 × dp 2");
    }
}
