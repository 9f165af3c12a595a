//! NVRTC, CUDA's compiler as a library: cuDNN makes its attention kernels with it during a run.

use anyhow::{Context, Result, ensure};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};

/// Opens NVRTC and its builtins, as `import torch` does. NVRTC looks for the builtins by name
/// alone, and nothing tells the dynamic linker where they are; without them it compiles nothing.
pub(crate) fn preload() {
    // In a wheel they are beside the CUDA runtime, in a zip release beside libtorch.
    let libraries = opened();
    let is_near = |path: &&PathBuf| {
        ["libcudart", "libtorch_cuda.so"].iter().any(|library| name(path).starts_with(library))
    };
    let folders: BTreeSet<_> =
        libraries.iter().filter(is_near).filter_map(|p| p.parent()).collect();
    for file in folders.into_iter().filter_map(|folder| folder.read_dir().ok()).flatten().flatten()
    {
        let path = file.path();
        if name(&path).starts_with("libnvrtc") && !name(&path).contains(".alt.") {
            // SAFETY: NVRTC's initialisers expect nothing.
            let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
            let _ = library.map(std::mem::forget); // if it fails, whoever needs it says so
        }
    }
}

/// The libraries that this process has opened.
fn opened() -> BTreeSet<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(|line| line.find('/').map(|at| line[at..].into())).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

/// Compiles a small kernel, as cuDNN does. This needs no GPU.
///
/// # Errors
/// One clause that says what is missing.
pub fn can_compile() -> Result<()> {
    type Create = unsafe extern "C" fn(
        program: *mut *mut c_void,
        source: *const c_char,
        name: *const c_char,
        headers: c_int,
        texts: *const *const c_char,
        names: *const *const c_char,
    ) -> c_int;
    type Compile = unsafe extern "C" fn(*mut c_void, c_int, *const *const c_char) -> c_int;
    type LogSize = unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int;
    type Log = unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int;

    crate::open()?;
    let libraries = opened();
    let is_nvrtc =
        |path: &&PathBuf| name(path).starts_with("libnvrtc") && !name(path).contains("builtins");
    let path = libraries.iter().find(is_nvrtc).context("libtorch came without NVRTC")?;
    let source = c"__global__ void f(float* a) { a[0] = sinf(a[1]); }";
    let (mut program, mut length) = (null_mut(), 0);
    // SAFETY: NVRTC's interface has had these functions, with these types, since CUDA 7. The program is ours,
    // and the log as long as it is said to be, with a zero at its end.
    unsafe {
        let nvrtc = Library::new(path)?;
        let code = nvrtc.get::<Create>(b"nvrtcCreateProgram")?(
            &mut program,
            source.as_ptr(),
            c"f.cu".as_ptr(),
            0,
            null(),
            null(),
        );
        ensure!(code == 0, "NVRTC makes no program: code {code}");
        let options = [c"--gpu-architecture=sm_90".as_ptr()];
        let code = nvrtc.get::<Compile>(b"nvrtcCompileProgram")?(program, 1, options.as_ptr());
        nvrtc.get::<LogSize>(b"nvrtcGetProgramLogSize")?(program, &mut length);
        let mut log = vec![0; length + 1];
        nvrtc.get::<Log>(b"nvrtcGetProgramLog")?(program, log.as_mut_ptr());
        let log = CStr::from_ptr(log.as_ptr()).to_string_lossy();
        let log = log.lines().next().unwrap_or_default();
        ensure!(code == 0, "NVRTC compiles nothing: code {code}, {log}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    /// This also holds on a machine without a GPU, if it has that half of libtorch.
    #[test]
    fn the_compiler_that_cudnn_asks_finds_its_builtins() {
        if let Err(why) = crate::open() {
            println!("skipped: {why}");
            return;
        }
        super::can_compile().unwrap();
    }
}
