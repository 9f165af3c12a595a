//! Compiles `src/shim.cpp` against the libtorch that torch-sys uses.

#[path = "../setup/libtorch.rs"]
mod libtorch;

fn main() {
    libtorch::compile("ferrotron_gpu", &["src/shim.cpp"]);
}
