//! Compiles the stand-in for a GPU, `stand-in/`, into a folder that tests put on LD_LIBRARY_PATH.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=stand-in");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch = PathBuf::from(env::var("LIBTORCH").unwrap_or_default());
    let folder = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it")).join("stand-in");
    fs::create_dir_all(&folder).expect("OUT_DIR can be written to");
    let library = folder.join("libtorch_cuda.so");

    // cc makes static libraries, so it is only asked for the compiler.
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).opt_level(1).pic(true);
    build.define("_GLIBCXX_USE_CXX11_ABI", "1").include(libtorch.join("include"));
    let mut command = build.get_compiler().to_command();
    for file in ["device", "memory", "kernels", "nccl"] {
        command.arg(format!("stand-in/{file}.cpp"));
    }
    command.arg("-shared").arg("-o").arg(&library);
    command.arg("-L").arg(libtorch.join("lib")).args(["-ltorch_cpu", "-lc10", "-pthread"]);
    let status = command.status().expect("there is a C++ compiler");
    assert!(status.success(), "the stand-in for a GPU does not compile against {libtorch:?}");

    for name in ["libnccl.so.2", "libcuda.so.1"] {
        let link = folder.join(name);
        let _ = fs::remove_file(&link);
        symlink(&library, &link).expect("OUT_DIR can be written to");
    }
    println!("cargo:rustc-env=STAND_IN={}", folder.display());
}
