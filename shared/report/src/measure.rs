//! Speed and memory, in the units that the field compares.

/// Floating-point operations that training needs per token, forward and backward, in the usual
/// count: `6·N + 12·L·h·S` (Chowdhery et al. 2022, *PaLM*, appendix B; Picotron's `get_mfu`
/// counts the same).
///
/// * `parameters` (N): all of the model, embedding and norms included; a matrix that is both
///   embedding and head counts once. Each is counted as one multiply-add forward and two backward.
/// * `layers` (L), `attention_width` (h = heads × head width), `seq_len` (S, tokens): the two products
///   inside attention, forward and twice backward, as if no causal mask halved them.
pub fn flops_per_token(parameters: u64, layers: u64, attention_width: u64, seq_len: u64) -> f64 {
    6.0 * parameters as f64 + 12.0 * layers as f64 * attention_width as f64 * seq_len as f64
}

/// The same, leaving out what is not computed: `6·M + 6·L·h·S`.
///
/// * `matrix_parameters` (M): those that take part in a matrix product. The head does; the embedding,
///   in which a token is looked up, and the norms do not.
/// * The others as in [`flops_per_token`]. Under a causal mask a token attends to (S + 1)/2 on average,
///   here S/2 as is usual (Dao 2023, *FlashAttention-2*, section 4.1).
pub fn strict_flops_per_token(
    matrix_parameters: u64,
    layers: u64,
    attention_width: u64,
    seq_len: u64,
) -> f64 {
    6.0 * matrix_parameters as f64 + 6.0 * layers as f64 * attention_width as f64 * seq_len as f64
}

/// Model FLOP utilisation, from 0 to 1: the useful operations per second over `peak_flops`, the
/// operations per second that all devices of the run could do together.
pub fn mfu(tokens_per_second: f64, flops_per_token: f64, peak_flops: f64) -> f64 {
    tokens_per_second * flops_per_token / peak_flops
}

/// The most memory that this process has had resident, in bytes. `None` where the system does not
/// tell.
#[cfg(not(target_os = "macos"))]
pub fn peak_memory_bytes() -> Option<u64> {
    // getrusage(2) would name that of the process that started this one, where it was larger.
    high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The most memory that this process has had resident, in bytes. `None` where the system does not
/// tell.
#[cfg(target_os = "macos")]
pub fn peak_memory_bytes() -> Option<u64> {
    // SAFETY: a structure of numbers may be all zeros, and getrusage(2) does nothing but fill it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let code = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    (code == 0).then_some(usage.ru_maxrss as u64) // bytes; on Linux they would be kibibytes
}

#[cfg(any(test, not(target_os = "macos")))]
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flops_of_a_small_llama_by_hand() {
        // 6 × 1,000,000 + 12 × 4 × 256 × 128
        assert_eq!(flops_per_token(1_000_000, 4, 256, 128), 7_572_864.0);
        assert_eq!(mfu(1000.0, 7_572_864.0, 7_572_864.0 * 4000.0), 0.25);
        // 6 × 900,000 + 6 × 4 × 256 × 128
        assert_eq!(strict_flops_per_token(900_000, 4, 256, 128), 6_186_432.0);
    }

    #[test]
    fn the_utilisation_that_palm_published() {
        // 540.35 billion parameters, 118 layers of 48 heads of 256, sequences of 2,048: 238,300 tokens/s
        // on 6,144 chips of 275 TFLOP/s.
        let flops = flops_per_token(540_350_000_000, 118, 48 * 256, 2048);
        let percent = 100.0 * mfu(238_300.0, flops, 6144.0 * 275e12);
        assert_eq!(format!("{percent:.1}"), "46.2");
    }

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t  123 kB\nVmRSS:\t  99 kB\n";
        assert_eq!(high_water_mark(status), Some(123 * 1024));
        assert_eq!(high_water_mark("Name:\tx\n"), None);
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    fn memory_in_use_raises_the_peak() {
        let before = peak_memory_bytes().unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = peak_memory_bytes().unwrap();
        assert!(after >= block.len() as u64 && after >= before, "{before} -> {after}");
    }
}
