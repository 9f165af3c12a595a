// For build scripts: compiles a crate's C++ files against the libtorch that torch-sys uses.

use std::path::PathBuf;
use std::process::exit;

pub fn compile(name: &str, files: &[&str]) {
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-changed=../setup/libtorch.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = PathBuf::from(std::env::var("LIBTORCH").unwrap_or_default());
    if !libtorch.join("include/ATen/ATen.h").exists() {
        // torch-sys fails too, on a missing header; this is the sentence to read.
        eprintln!(
            "error: no libtorch at LIBTORCH={} (run `make setup` once, or point LIBTORCH at one)",
            libtorch.display()
        );
        exit(1);
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include(libtorch.join("include"))
        .include(libtorch.join("include/torch/csrc/api/include"))
        .files(files)
        .compile(name);
    println!("cargo:rustc-link-search=native={}", libtorch.join("lib").display());
    println!("cargo:rustc-link-lib=torch_cpu");
    println!("cargo:rustc-link-lib=c10");
}
