//! What a GPU can do at best, for predictions.

use crate::{Dtype, word};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes in the GB of data sheets.
const GB: f64 = 1e9;

/// The GPUs of one node: HGX and DGX boards of all three kinds carry eight.
pub const GPUS_PER_NODE: usize = 8;

/// A kind of GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gpu {
    /// Hopper, with 80 GB.
    H100,
    /// Hopper, with 141 GB.
    H200,
    /// Ampere, with 80 GB.
    A100,
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&word(self))
    }
}

/// Figures of the SXM form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Dense operations per second in bf16.
    pub bf16: f64,
    /// The same in f32 (no TF32: libtorch leaves it off) and in f64, which the tensor cores raise
    /// to the rate of f32.
    pub wide: f64,
    /// Memory that a process sees, in bytes.
    pub memory: u64,
    /// Bytes per second from and to memory.
    pub memory_bandwidth: f64,
    /// Bytes per second that a GPU sends to others of its node.
    pub nvlink: f64,
    /// Bytes per second that a GPU sends to other nodes, with a network card of its own.
    pub network: f64,
}

impl Gpu {
    /// The GPU that CUDA reports under this name; `None` if one of the figures below is not true of
    /// it. So whole names are compared: cards for PCIe (NVL among them) and the A100 with 40 GB
    /// have names of their own, and that of a slice of a GPU (MIG) begins with the GPU's.
    pub fn from_cuda_name(name: &str) -> Option<Self> {
        match name {
            "NVIDIA H100 80GB HBM3" => Some(Self::H100),
            "NVIDIA H200" => Some(Self::H200),
            "NVIDIA A100-SXM4-80GB" => Some(Self::A100),
            _ => None,
        }
    }

    /// What it can do at best.
    pub fn figures(self) -> Figures {
        const MIB: u64 = 1 << 20;
        // Rates: NVIDIA's data sheets of the H100, H200 and A100 80GB, without sparsity; of
        // NVLink's 900 (A100: 600) GB/s, half goes each way. Memory: `memory.total` of
        // nvidia-smi. Network: the cards of DGX H100 and H200 (ConnectX-7, 400 Gb/s) and DGX A100
        // (ConnectX-6, 200 Gb/s).
        match self {
            Self::H100 => Figures {
                bf16: 989e12,
                wide: 67e12,
                memory: 81_559 * MIB,
                memory_bandwidth: 3350.0 * GB,
                nvlink: 450.0 * GB,
                network: 50.0 * GB,
            },
            // The same chip with more and faster memory.
            Self::H200 => Figures {
                memory: 143_771 * MIB,
                memory_bandwidth: 4800.0 * GB,
                ..Self::H100.figures()
            },
            Self::A100 => Figures {
                bf16: 312e12,
                wide: 19.5e12,
                memory: 81_920 * MIB,
                memory_bandwidth: 2039.0 * GB,
                nvlink: 300.0 * GB,
                network: 25.0 * GB,
            },
        }
    }
}

impl Figures {
    /// Dense operations per second in `dtype`.
    pub fn peak(&self, dtype: Dtype) -> f64 {
        match dtype {
            Dtype::Bf16 => self.bf16,
            Dtype::F32 | Dtype::F64 => self.wide,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_known_by_the_name_that_cuda_reports() {
        let named = Gpu::from_cuda_name;
        assert_eq!(named("NVIDIA H100 80GB HBM3"), Some(Gpu::H100));
        assert_eq!(named("NVIDIA H200"), Some(Gpu::H200));
        assert_eq!(named("NVIDIA A100-SXM4-80GB"), Some(Gpu::A100));
    }

    #[test]
    fn the_figures_are_not_taken_for_those_of_another_form() {
        let others = [
            "NVIDIA H100 PCIe",
            "NVIDIA H100 NVL",
            "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
            "NVIDIA H200 NVL",
            "NVIDIA H200 MIG 3g.71gb",
            "NVIDIA GH200 480GB",
            "NVIDIA H800",
            "NVIDIA A100-SXM4-40GB",
            "NVIDIA A100-PCIE-40GB",
            "NVIDIA A100 80GB PCIe",
            "NVIDIA A100-SXM4-80GB MIG 2g.20gb",
            "NVIDIA GeForce RTX 4090",
            "h100",
            "",
        ];
        for name in others {
            assert_eq!(Gpu::from_cuda_name(name), None, "{name}");
        }
    }
}
