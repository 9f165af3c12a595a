//! Initial weights that depend on (seed, name, row) and on nothing else.

use anyhow::{Result, bail};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::thread;
use tch::{Kind, Tensor};

/// Draws a slice of the tensor `name` in f64.
///
/// Every row has a stream of its own in a counter-based generator (ChaCha8), keyed by seed and
/// name, so row r is drawn without the rows before it, and a rank draws just its shard of them.
///
/// # Errors
/// If there is no memory for the slice.
pub(crate) fn draw(seed: u64, layers: i64, name: &str, slice: &[Range<i64>]) -> Result<Tensor> {
    let shape: Vec<i64> = slice.iter().map(|range| range.end - range.start).collect();
    let [rows, columns] = slice else {
        // Vectors are the gains of norms.
        return Ok(Tensor::ones(shape, (Kind::Double, tch::Device::Cpu)));
    };
    let to_residual = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
    let std = 0.02 / if to_residual { (2.0 * layers as f64).sqrt() } else { 1.0 };

    let (count, mut numbers) = ((shape[0] * shape[1]) as usize, vec![]);
    if numbers.try_reserve_exact(count).is_err() {
        bail!("there is no memory to draw its {} GiB", (8 * count) >> 30);
    }
    numbers.resize(count, 0.0);
    let random = ChaCha8Rng::from_seed(key(seed, name));
    let left = Mutex::new(numbers.chunks_mut(shape[1].max(1) as usize).enumerate());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    // No row needs another, so whoever is free draws the next.
    with_helpers(count / PER_THREAD, || {
        while let Some((i, row)) = next() {
            let mut random = random.clone();
            random.set_stream(rows.start as u64 + i as u64);
            // A row is drawn from its start: how many words a normal takes depends on the words.
            let mut normal = || -> f64 { StandardNormal.sample(&mut random) };
            (0..columns.start).for_each(|_| _ = normal());
            row.fill_with(|| normal() * std);
        }
    });
    Ok(Tensor::from_slice(&numbers).view(&shape[..]))
}

/// Numbers that pay for a thread, which takes as long to start as some thousand to draw.
const PER_THREAD: usize = 1 << 16;

/// Runs `work` here and on up to `helpers` other threads, at most one for each core. If the system
/// allows fewer threads, or none, fewer do the work.
fn with_helpers(helpers: usize, work: impl Fn() + Sync) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..helpers.min(cores - 1) {
            if thread::Builder::new().spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

/// A ChaCha key: the seed, then a 128-bit FNV-1a hash of the name.
fn key(seed: u64, name: &str) -> [u8; 32] {
    let hash = name.bytes().fold(0x6c62272e07bb014262b821756295c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000000001000000000000000000013b)
    });
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..24].copy_from_slice(&hash.to_le_bytes());
    key
}
