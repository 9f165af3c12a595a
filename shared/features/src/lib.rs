//! Nothing but a list of features, in `Cargo.toml`.
//!
//! Cargo compiles a dependency once for each set of features that is asked of it, and `-p step04` asks for other sets
//! than `--workspace`. With this package below every other, each command asks for the same: what one has compiled, the
//! next one takes.
