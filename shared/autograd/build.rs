//! Compiles the C++ files against the libtorch that torch-sys uses.

#[path = "../setup/libtorch.rs"]
mod libtorch;

fn main() {
    libtorch::compile("ferrotron_autograd", &["src/shim.cpp", "src/memory.cpp"]);
}
