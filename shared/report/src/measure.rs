//! Speed and memory, in the units that the field compares.

/// Floating-point operations that training needs per token, forward and backward: `6·N + 12·L·h·S`
/// (Chowdhery et al. 2022, *PaLM*, appendix B).
///
/// * `parameters` (N): weights that take part in a matrix product. Each costs one multiply-add forward
///   and two backward. An input embedding is a lookup: count it only where it is also the output matrix.
/// * `layers` (L), `attention_width` (h = heads × head width), `seq_len` (S, tokens): the two products
///   inside attention, counted without the saving that a causal mask allows, as is usual.
pub fn flops_per_token(parameters: u64, layers: u64, attention_width: u64, seq_len: u64) -> f64 {
    6.0 * parameters as f64 + 12.0 * layers as f64 * attention_width as f64 * seq_len as f64
}

/// Model FLOP utilisation, from 0 to 1: the useful operations per second over `peak_flops`, the
/// operations per second that all devices of the run could do together.
pub fn mfu(tokens_per_second: f64, flops_per_token: f64, peak_flops: f64) -> f64 {
    tokens_per_second * flops_per_token / peak_flops
}

/// The most memory that this process has had resident, in bytes. `None` where the system keeps no
/// `/proc/self/status`.
pub fn peak_memory_bytes() -> Option<u64> {
    high_water_mark(&std::fs::read_to_string("/proc/self/status").ok()?)
}

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
    }

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t  123 kB\nVmRSS:\t  99 kB\n";
        assert_eq!(high_water_mark(status), Some(123 * 1024));
        assert_eq!(high_water_mark("Name:\tx\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_in_use_raises_the_peak() {
        let before = peak_memory_bytes().unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = peak_memory_bytes().unwrap();
        assert!(after >= block.len() as u64 && after >= before, "{before} -> {after}");
    }
}
