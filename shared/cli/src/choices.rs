//! Settings that are one of a few words.

use std::fmt;

/// An enum whose values are written as words.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            pub(crate) const NAMES: &[&str] = &[$($word),+];

            pub(crate) fn from_name(name: &str) -> Option<Self> {
                match name { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    };
}

choice!(DpSync {
    /// One all-reduce per parameter, after the backward pass.
    Naive = "naive",
    /// Many parameters to an all-reduce, while the backward pass goes on.
    Bucketed = "bucketed"
});
choice!(TpSync {
    /// The sum of an input's gradient first, then the gradient of the weight.
    Blocking = "blocking",
    /// Both at once.
    Overlapped = "overlapped"
});
choice!(Schedule {
    /// One forward pass, one backward pass, in turn.
    OneForwardOneBackward = "1f1b",
    /// All forward passes, then all backward passes.
    AllForwardAllBackward = "afab"
});
choice!(CpLayout {
    /// Rank r of c holds pieces r and 2c − 1 − r of 2c, so that all have as much to attend to.
    Zigzag = "zigzag",
    /// Rank r of c holds piece r of c.
    Contiguous = "contiguous"
});
choice!(DeviceName { Cpu = "cpu", Cuda = "cuda" });
choice!(
    /// What is computed in. Weights and optimiser are f32 under bf16, else of the same type.
    Dtype { F32 = "f32", F64 = "f64", Bf16 = "bf16" }
);
choice!(
    /// What a dry run predicts for.
    Gpu { H100 = "h100", H200 = "h200", A100 = "a100" }
);
