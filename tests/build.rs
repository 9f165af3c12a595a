//! Compiles two things that take a GPU's place, each into a folder that tests put on
//! LD_LIBRARY_PATH: the stand-in, `stand-in/`, and the recorder, `recorder/`.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=stand-in");
    println!("cargo:rerun-if-changed=recorder");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        // Elsewhere there is no CUDA to take the place of: the tests that need these are left out.
        println!("cargo:rustc-env=STAND_IN=");
        println!("cargo:rustc-env=RECORDER=");
        return;
    }
    let libtorch = PathBuf::from(env::var("LIBTORCH").unwrap_or_default());
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    let folder = |name: &str| {
        let folder = out.join(name);
        fs::create_dir_all(&folder).expect("OUT_DIR can be written to");
        folder
    };

    let stand_in = folder("stand-in");
    let library = stand_in.join("libtorch_cuda.so");
    let files = ["device", "memory", "kernels", "nccl"].map(|file| format!("stand-in/{file}.cpp"));
    let include = format!("-I{}", libtorch.join("include").display());
    let libraries = format!("-L{}", libtorch.join("lib").display());
    compile(&library, &files, &[&include, &libraries, "-ltorch_cpu", "-lc10", "-pthread"]);
    for name in ["libnccl.so.2", "libcuda.so.1"] {
        let link = stand_in.join(name);
        let _ = fs::remove_file(&link);
        symlink(&library, &link).expect("OUT_DIR can be written to");
    }
    println!("cargo:rustc-env=STAND_IN={}", stand_in.display());

    let recorder = folder("recorder");
    for (name, files) in [
        ("librecorder.so", &["device", "memory", "kernels", "cublas"][..]),
        ("libnccl.so.2", &["nccl"]),
        ("libcuda.so.1", &["driver"]),
    ] {
        let files: Vec<_> = files.iter().map(|file| format!("recorder/{file}.cpp")).collect();
        // By this name libtorch knows that it has the library already.
        compile(&recorder.join(name), &files, &[&format!("-Wl,-soname,{name}"), "-ldl"]);
    }
    println!("cargo:rustc-env=RECORDER={}", recorder.display());
}

/// Makes a shared library. The crate `cc` makes static ones, so it is only asked for the compiler.
fn compile(library: &Path, files: &[String], options: &[&str]) {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").warnings(false).opt_level(1).pic(true);
    build.define("_GLIBCXX_USE_CXX11_ABI", "1");
    let mut command = build.get_compiler().to_command();
    command.args(files).arg("-shared").arg("-o").arg(library).args(options);
    let status = command.status().expect("there is a C++ compiler");
    assert!(status.success(), "{files:?} do not compile with {options:?}");
}
