//! The C interface of `shim.cpp` and `memory.cpp`, and the callbacks that the former calls.

use anyhow::{Result, anyhow};
use std::any::Any;
use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tch::Tensor;
use torch_sys::C_tensor;

/// Gradient of the output in; gradients of the inputs out, in the order of the inputs.
pub(crate) type Backward = Box<dyn Fn(&Tensor) -> Result<Vec<Tensor>> + Send>;
/// Shared with whoever is running it, since it may drop its own handle.
pub(crate) type GradHook = Arc<Mutex<dyn FnMut() -> Result<()> + Send>>;

/// As in `memory.cpp`.
#[repr(C)]
pub(crate) struct Change {
    pub nanoseconds: u64,
    pub bytes: i64,
}

unsafe extern "C" {
    fn ferrotron_push(grads: *mut c_void, grad: *const C_tensor);
    fn ferrotron_set_error(error: *mut c_void, text: *const c_char, length: usize);
    pub(crate) fn ferrotron_custom(
        inputs: *const *const C_tensor,
        n: usize,
        output: *const C_tensor,
        closure: *mut c_void,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn ferrotron_set_hook(param: *const C_tensor, closure: *mut c_void) -> *mut c_char;
    pub(crate) fn ferrotron_set_grad(param: *const C_tensor, grad: *const C_tensor) -> *mut c_char;
    pub(crate) fn ferrotron_backward_with(
        output: *const C_tensor,
        grad: *const C_tensor,
    ) -> *mut c_char;
    pub(crate) fn ferrotron_norms(
        tensors: *const *const C_tensor,
        n: usize,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn ferrotron_scale(
        tensors: *const *const C_tensor,
        n: usize,
        factor: *const C_tensor,
    ) -> *mut c_char;
    pub(crate) fn ferrotron_adamw(
        params: *const *const C_tensor,
        grads: *const *const C_tensor,
        exp_avgs: *const *const C_tensor,
        exp_avg_sqs: *const *const C_tensor,
        n: usize,
        step: i64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *mut c_char;
    pub(crate) fn ferrotron_flash(
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        causal: bool,
        out: *mut *mut C_tensor,
        lse: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn ferrotron_flash_backward(
        inputs: *const *const C_tensor,
        causal: bool,
        grads: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn ferrotron_observe_memory() -> *mut c_char;
    pub(crate) fn ferrotron_start_recording(held: *mut i64) -> bool;
    pub(crate) fn ferrotron_stop_recording(n: *mut usize) -> *mut Change;
    pub(crate) fn free(pointer: *mut c_void);
}

/// Turns what an entry point of the shim returned into a `Result`.
///
/// # Safety
/// `error` is just that: null, or a string that the shim handed over.
pub(crate) unsafe fn check(error: *mut c_char) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null return is a NUL-terminated string from strdup, handed over to us.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: it came from malloc, and nothing else holds it.
    unsafe { free(error.cast()) };
    // libtorch appends a C++ stack trace; the first line is the message.
    Err(anyhow!("{}", text.lines().next().unwrap_or_default().to_owned()))
}

/// Borrowed C++ pointers of `tensors`; valid while these live.
pub(crate) fn pointers<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<*const C_tensor> {
    tensors.into_iter().map(Tensor::as_ptr).collect()
}

#[unsafe(no_mangle)]
extern "C" fn ferrotron_backward(
    closure: *mut c_void,
    grad: *const C_tensor,
    grads: *mut c_void,
    error: *mut c_void,
) -> bool {
    report(error, || {
        // SAFETY: `closure` is the box that `custom` made. The node that owns it holds its lock while
        // it calls: it neither frees the box nor calls from two threads at once.
        let backward = unsafe { &*closure.cast::<Backward>() };
        // SAFETY: `grad` lives until we return; the clone holds its own reference.
        let grad = unsafe { Tensor::clone_from_ptr(grad.cast_mut()) };
        for input in tch::no_grad(|| backward(&grad))? {
            // SAFETY: `grads` is the node's list; it takes a reference of its own.
            unsafe { ferrotron_push(grads, input.as_ptr()) };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn ferrotron_hook(closure: *mut c_void, error: *mut c_void) -> bool {
    report(error, || {
        // SAFETY: `closure` is the box that `on_grad_ready` made, alive while its hook is set.
        let hook = unsafe { &*closure.cast::<GradHook>() }.clone();
        // From here on the box may be dropped. A hook that has panicked before runs again.
        let mut hook = hook.lock().unwrap_or_else(PoisonError::into_inner);
        tch::no_grad(&mut *hook)
    })
}

#[unsafe(no_mangle)]
extern "C" fn ferrotron_drop_backward(closure: *mut c_void) {
    // SAFETY: the node owned the box and drops it once. A panic in a destructor must not unwind
    // into C++.
    let _ = catch_unwind(|| drop(unsafe { Box::from_raw(closure.cast::<Backward>()) }));
}

#[unsafe(no_mangle)]
extern "C" fn ferrotron_drop_hook(closure: *mut c_void) {
    // SAFETY: as for `ferrotron_drop_backward`, with the hook as the owner.
    let _ = catch_unwind(|| drop(unsafe { Box::from_raw(closure.cast::<GradHook>()) }));
}

/// Runs a callback; an error or a panic becomes the text of the C++ exception that ends the
/// backward pass.
fn report(error: *mut c_void, body: impl FnOnce() -> Result<()>) -> bool {
    let text = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return true,
        Ok(Err(e)) => format!("{e:#}"),
        Err(panic) => format!("panicked: {}", message(panic.as_ref())),
    };
    // SAFETY: `error` is the caller's std::string; the text is copied.
    unsafe { ferrotron_set_error(error, text.as_ptr().cast(), text.len()) };
    false
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
