//! Makes cargo look at the build dependencies; there is nothing to do.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
