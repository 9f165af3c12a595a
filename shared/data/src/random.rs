//! Random choices that every machine makes alike.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// ChaCha with 8 rounds, keyed by two numbers.
pub struct Random(ChaCha8Rng);

impl Random {
    /// Different numbers for every pair of `seed` and `stream`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&stream.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `n`, which is not 0. (The bias of at most n/2⁶⁴ is of no account here.)
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// A number from 0 to just below 1, of 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Any of `from`, which is not empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// 0..n in random order (Fisher and Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_pinned() {
        let mut random = Random::new(1, 2);
        let drawn: Vec<_> = (0..8).map(|_| random.below(1000)).collect();
        assert_eq!(drawn, [329, 276, 477, 239, 15, 39, 214, 0]);
        assert_eq!(Random::new(7, 0).permutation(8), [2, 5, 7, 4, 1, 0, 3, 6]);
    }

    #[test]
    fn every_order_of_three_is_as_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for stream in 0..6000 {
            *counts.entry(Random::new(5, stream).permutation(3)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // 1000 of each are expected, with a standard deviation of 29; the draws are fixed.
        assert!(counts.values().all(|n| (900..1100).contains(n)), "{counts:?}");
    }
}
