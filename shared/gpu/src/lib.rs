//! What tch leaves out of libtorch's CUDA half.
//!
//! Nothing here is linked against CUDA: [`load`] opens that half of libtorch while the program
//! runs, so one binary serves machines with a GPU and without.

mod ffi;
mod nvrtc;
mod stream;

pub use nvrtc::can_compile;
pub use stream::{Event, Stream};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ffi::check;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::{CStr, c_char, c_int, c_uint};
use std::ptr::null_mut;
use std::sync::OnceLock;
use tch::Tensor;

/// Makes GPUs usable, and returns how many this process sees. Call it before any other use of CUDA:
/// libtorch looks for that half of itself only once.
///
/// # Errors
/// One clause that says why no GPU can be used.
pub fn load() -> Result<usize> {
    open()?;
    if !tch::Cuda::is_available() {
        if let Some((driver, libtorch)) = versions() {
            check_driver(driver, libtorch)?;
        }
        bail!("libtorch finds no GPU that it can use");
    }
    Ok(usize::try_from(tch::Cuda::device_count())?)
}

/// A driver that is too old for this libtorch. [`load`]'s error holds it, so that callers can give
/// other advice.
#[derive(Debug, thiserror::Error)]
#[error("the driver is for CUDA {driver}, and this libtorch needs {libtorch}")]
pub struct OldDriver {
    driver: String,
    libtorch: String,
}

/// Compares two versions as CUDA gives them: 12040 for 12.4. Within a major version any
/// driver will do.
fn check_driver(driver: c_int, libtorch: c_int) -> Result<(), OldDriver> {
    let text = |version: c_int| format!("{}.{}", version / 1000, version % 1000 / 10);
    if driver / 1000 < libtorch / 1000 {
        return Err(OldDriver { driver: text(driver), libtorch: text(libtorch) });
    }
    Ok(())
}

/// The version of CUDA that the driver is for, and that of libtorch's CUDA half.
fn versions() -> Option<(c_int, c_int)> {
    type Version = unsafe extern "C" fn(version: *mut c_int) -> c_int;
    let ask = |library: &Library, name: &[u8]| {
        let mut version = 0;
        // SAFETY: both functions have had this type since CUDA 2, and need nothing to be initialised.
        let code = unsafe { library.get::<Version>(name).ok()?(&mut version) };
        (code == 0).then_some(version)
    };
    // SAFETY: as in `driver`.
    let driver = unsafe { Library::new("libcuda.so.1") }.ok()?;
    // CUDA's runtime was loaded with libtorch's half.
    Some((ask(&driver, b"cuDriverGetVersion")?, ask(&Library::this(), b"cudaRuntimeGetVersion")?))
}

/// Whether this libtorch has kernels for GPUs of a compute capability: CUDA 13 makes
/// none below 7.5.
pub fn has_kernels_for(capability: (i32, i32)) -> bool {
    capability >= (7, 5) || versions().is_some_and(|(_, libtorch)| libtorch < 13_000)
}

/// Opens libtorch's CUDA half, once.
fn open() -> Result<()> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    // It registers its kernels with the rest of libtorch as it is opened, and stays until the end.
    let loaded = LOADED.get_or_init(|| {
        // SAFETY: opening runs the library's initialisers, which are made to be run like this: it is how
        // `import torch` gets them.
        let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
        library.map(std::mem::forget).map_err(|error| reason(&error))?;
        nvrtc::preload();
        Ok(())
    });
    let why = |reason| anyhow!("the CUDA half of libtorch cannot be loaded ({reason})");
    loaded.as_ref().map_err(why).copied()
}

/// What the dynamic linker says, without the name of the call.
fn reason(error: &libloading::Error) -> String {
    let text = error.to_string();
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => text,
    }
}

/// The name of GPU `ordinal` as its driver gives it, `NVIDIA H100 80GB HBM3` for instance.
pub fn name(ordinal: usize) -> Result<String> {
    type GetName = unsafe extern "C" fn(name: *mut c_char, length: c_int, device: c_int) -> c_int;
    let (driver, device) = driver(ordinal)?;
    let mut name = [0 as c_char; 256];
    // SAFETY: the driver's interface has had this function, with this type, since CUDA 2; `name` is as
    // long as it is said to be and ends in a zero.
    unsafe {
        let code = driver.get::<GetName>(b"cuDeviceGetName")?(name.as_mut_ptr(), 255, device);
        ensure!(code == 0, "the driver does not give the name of GPU {ordinal}: code {code}");
        Ok(CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
    }
}

/// The compute capability of GPU `ordinal`: (9, 0) for Hopper, (8, 0) for Ampere.
pub fn capability(ordinal: usize) -> Result<(i32, i32)> {
    Ok((attribute(ordinal, 75)?, attribute(ordinal, 76)?))
}

/// Whether GPU `ordinal` admits only one process (`nvidia-smi -c EXCLUSIVE_PROCESS`).
pub fn is_exclusive(ordinal: usize) -> Result<bool> {
    Ok(attribute(ordinal, 20)? == 3) // the compute mode
}

/// What the driver says of GPU `ordinal` under this number of `CUdevice_attribute`.
fn attribute(ordinal: usize, number: c_int) -> Result<c_int> {
    type Get = unsafe extern "C" fn(value: *mut c_int, attribute: c_int, device: c_int) -> c_int;
    let (driver, device) = driver(ordinal)?;
    let mut value = 0;
    // SAFETY: as in `name`, with our numbers since CUDA 5; `value` outlives the call.
    let code = unsafe { driver.get::<Get>(b"cuDeviceGetAttribute")?(&mut value, number, device) };
    ensure!(code == 0, "the driver does not say what GPU {ordinal} can do: code {code}");
    Ok(value)
}

/// The driver, and what it calls GPU `ordinal`. Creates nothing on the GPU.
fn driver(ordinal: usize) -> Result<(Library, c_int)> {
    type Init = unsafe extern "C" fn(flags: c_uint) -> c_int;
    type Get = unsafe extern "C" fn(device: *mut c_int, ordinal: c_int) -> c_int;
    let mut device = 0;
    // SAFETY: as in `name`; `device` outlives the call.
    unsafe {
        let driver = Library::new("libcuda.so.1").context("the driver cannot be opened")?;
        let codes = [
            driver.get::<Init>(b"cuInit")?(0),
            driver.get::<Get>(b"cuDeviceGet")?(&mut device, ordinal as c_int),
        ];
        ensure!(codes == [0; 2], "the driver does not know GPU {ordinal}: codes {codes:?}");
        Ok((driver, device))
    }
}

/// Makes GPU `ordinal` the current one of the calling thread, for calls that do not name one.
pub fn set_device(ordinal: usize) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ferrotron_gpu_set_device(ordinal as c_int) })
}

/// Waits until GPU `ordinal` has done everything that was queued.
pub fn synchronize(ordinal: usize) -> Result<()> {
    // SAFETY: takes no pointer.
    check(unsafe { ffi::ferrotron_gpu_synchronize(ordinal as c_int) })
}

/// The most bytes that tensors of this process have held at one time on the calling thread's GPU;
/// `None` if there is none.
pub fn peak_memory() -> Option<u64> {
    let mut bytes = 0;
    // SAFETY: `bytes` outlives the call.
    check(unsafe { ffi::ferrotron_gpu_peak_memory(&mut bytes) }).ok()?;
    u64::try_from(bytes).ok()
}

/// Copies `tensor` from the host to GPU `ordinal`. The copy is queued there like any operation,
/// and the host goes on. A plain copy would block it, since memory that is not page-locked may be
/// moved meanwhile.
pub fn upload(tensor: &Tensor, ordinal: usize) -> Result<Tensor> {
    let mut result = null_mut();
    // SAFETY: a live tensor in; without an error the shim stores a new one, which is ours.
    check(unsafe { ffi::ferrotron_gpu_upload(tensor.as_ptr(), ordinal as c_int, &mut result) })?;
    // SAFETY: as said, it is ours.
    Ok(unsafe { Tensor::from_ptr(result) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other half of these tests runs where there is a GPU.
    #[test]
    fn without_a_gpu_everything_says_so_and_nothing_breaks() {
        if load().is_ok() {
            println!("skipped: there is a GPU here");
            return;
        }
        let why = load().unwrap_err();
        let text = why.to_string();
        let missing = text.starts_with("the CUDA half of libtorch cannot be loaded (lib");
        let none = why.is::<OldDriver>() || text == "libtorch finds no GPU that it can use";
        assert!(missing || none, "{text}");
        assert!(!text.contains('\n') && !text.contains("dlopen"), "{text}");
        // Without the device's half of libtorch, each call is an error and not a crash.
        assert!(set_device(0).is_err());
        assert!(synchronize(0).is_err());
        assert_eq!(peak_memory(), None);
        assert!(Stream::current(0).is_err());
        assert!(Stream::side(0).is_err());
        assert!(name(0).is_err());
        assert!(capability(0).is_err() && is_exclusive(0).is_err());
        assert!(upload(&Tensor::from_slice(&[1.0]), 0).is_err());
    }

    #[test]
    fn a_driver_for_an_older_cuda_is_told_from_one_that_serves() {
        let told = check_driver(12_040, 13_000).unwrap_err().to_string();
        assert_eq!(told, "the driver is for CUDA 12.4, and this libtorch needs 13.0");
        for driver in [13_000, 13_010, 14_000] {
            assert!(check_driver(driver, 13_000).is_ok(), "{driver}");
        }
    }

    #[test]
    fn streams_run_in_order_and_events_tell_when() {
        if let Err(why) = load() {
            println!("skipped: {why}");
            return;
        }
        set_device(0).unwrap();
        let (compute, side) = (Stream::current(0).unwrap(), Stream::side(0).unwrap());
        assert_ne!(compute.handle().unwrap(), side.handle().unwrap());
        let start = compute.record_timed().unwrap();
        let ones = Tensor::ones([1 << 20], (tch::Kind::Float, tch::Device::Cuda(0)));
        let end = compute.record_timed().unwrap();
        side.wait(&end).unwrap();
        let after = side.record().unwrap();
        after.synchronize().unwrap();
        assert!(end.is_done().unwrap() && after.is_done().unwrap());
        assert!(end.milliseconds_since(&start).unwrap() >= 0.0);
        assert!(peak_memory().unwrap() >= 4 << 20);
        assert_eq!(ones.sum(None).double_value(&[]), f64::from(1 << 20));
        assert!(!name(0).unwrap().is_empty());
        assert!(has_kernels_for(capability(0).unwrap()));
        let up = upload(&Tensor::from_slice(&[1.0, 2.0]), 0).unwrap();
        assert_eq!(up.device(), tch::Device::Cuda(0));
        assert_eq!(Vec::<f64>::try_from(up).unwrap(), [1.0, 2.0]);
    }
}
