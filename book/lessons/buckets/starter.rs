//! The buckets of PyTorch's DistributedDataParallel.

/// Assigns the parameters to buckets; in each bucket, and from bucket to bucket, in the order in which
/// their gradients became ready.
///
/// `sizes`: of each parameter, in bytes. `ready`: the numbers of the parameters in the order in which
/// a first backward pass came to them; some may be missing, which it did not reach. `first`: at most
/// so many bytes in the first bucket, so that something can travel soon. `most`: in all others. A
/// parameter that is larger has a bucket of its own.
///
/// # Errors
/// If a number in `ready` is no parameter's, or stands there twice; or if a parameter is missing: its
/// bucket would never be full. The sentence names the parameter.
pub fn assign(
    sizes: &[usize],
    ready: &[usize],
    first: usize,
    most: usize,
) -> anyhow::Result<Vec<Vec<usize>>> {
    let _ = (sizes, ready, first, most);
    todo!("see the exercise of step 2")
}
