//! NCCL's own functions. They are looked up in the library while the program runs: the copy that
//! libtorch has opened already, by the name under which NCCL's packages install it.

use anyhow::{Context, Result, anyhow, bail, ensure};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;
use tch::Kind;

use crate::driver::Id;
use comm::ReduceOp;

/// `ncclComm_t`.
pub(crate) type RawComm = *mut c_void;
/// `cudaStream_t`.
pub(crate) type RawStream = *mut c_void;

/// Passed by value, as C passes a structure of 128 characters.
#[repr(C)]
pub(crate) struct UniqueId {
    internal: Id,
}

const SUCCESS: c_int = 0;
const IN_PROGRESS: c_int = 7;

/// Declares the functions with their types in nccl.h, and looks all of them up.
macro_rules! functions {
    ($($name:ident = $symbol:literal: ($($arg:ty),*) -> $out:ty;)+) => {
        pub(crate) struct Functions {
            $(pub $name: unsafe extern "C" fn($($arg),*) -> $out,)+
        }

        impl Functions {
            /// # Safety
            /// `library` is NCCL 2, whose functions have these types, and is never closed.
            unsafe fn find(library: &Library) -> Result<Self> {
                Ok(Self {
                    // SAFETY: as promised by the caller.
                    $($name: *unsafe { library.get($symbol) }
                        .with_context(|| format!("NCCL has no {}", stringify!($name)))?,)+
                })
            }
        }
    };
}

functions! {
    get_unique_id = b"ncclGetUniqueId": (*mut UniqueId) -> c_int;
    comm_init_rank = b"ncclCommInitRank": (*mut RawComm, c_int, UniqueId, c_int) -> c_int;
    group_start = b"ncclGroupStart": () -> c_int;
    group_end = b"ncclGroupEnd": () -> c_int;
    comm_abort = b"ncclCommAbort": (RawComm) -> c_int;
    get_async_error = b"ncclCommGetAsyncError": (RawComm, *mut c_int) -> c_int;
    get_error_string = b"ncclGetErrorString": (c_int) -> *const c_char;
    get_last_error = b"ncclGetLastError": (RawComm) -> *const c_char;
    all_reduce = b"ncclAllReduce":
        (*const c_void, *mut c_void, usize, c_int, c_int, RawComm, RawStream) -> c_int;
    reduce_scatter = b"ncclReduceScatter":
        (*const c_void, *mut c_void, usize, c_int, c_int, RawComm, RawStream) -> c_int;
    all_gather = b"ncclAllGather":
        (*const c_void, *mut c_void, usize, c_int, RawComm, RawStream) -> c_int;
    broadcast = b"ncclBroadcast":
        (*const c_void, *mut c_void, usize, c_int, c_int, RawComm, RawStream) -> c_int;
    send = b"ncclSend": (*const c_void, usize, c_int, c_int, RawComm, RawStream) -> c_int;
    recv = b"ncclRecv": (*mut c_void, usize, c_int, c_int, RawComm, RawStream) -> c_int;
}

/// The library, opened once and for good.
pub(crate) fn nccl() -> Result<&'static Functions> {
    static LOADED: OnceLock<Result<Functions, String>> = OnceLock::new();
    let open = || {
        // SAFETY: opening NCCL runs its initialisers, which ask nothing of this program. By this name it
        // is NCCL 2, and a leaked handle is never closed.
        unsafe {
            let library = Library::open(Some("libnccl.so.2"), RTLD_NOW | RTLD_LOCAL)?;
            Functions::find(Box::leak(Box::new(library)))
        }
    };
    let loaded = LOADED.get_or_init(|| open().map_err(|error: anyhow::Error| format!("{error:#}")));
    loaded.as_ref().map_err(|error| anyhow!("NCCL cannot be loaded ({error})"))
}

impl Functions {
    pub fn unique_id(&self) -> Result<Id> {
        let mut id = UniqueId { internal: [0; 128] };
        // SAFETY: `id` is as large as nccl.h says.
        self.check(unsafe { (self.get_unique_id)(&mut id) }, null_mut())?;
        Ok(id.internal)
    }

    /// Waits for the other members.
    pub fn init(&self, id: &Id, rank: usize, size: usize) -> Result<RawComm> {
        let (mut comm, id) = (null_mut(), UniqueId { internal: *id });
        let (rank, size) = (c_int::try_from(rank)?, c_int::try_from(size)?);
        // SAFETY: `comm` outlives the call.
        self.check(unsafe { (self.comm_init_rank)(&mut comm, size, id, rank) }, null_mut())?;
        Ok(comm)
    }

    /// Makes `calls`, and has NCCL carry them all out at one time when they have returned.
    pub fn together(&self, calls: impl FnOnce()) {
        // SAFETY: takes no pointers. An error could only be one of the calls', whose outcome does
        // not matter.
        let _ = unsafe { (self.group_start)() };
        calls();
        // SAFETY: as above.
        let _ = unsafe { (self.group_end)() };
    }

    /// Makes a call for each strip, all in one operation of the library; returns the first code
    /// that is not success.
    ///
    /// # Safety
    /// As for the calls.
    pub unsafe fn each_strip(&self, strips: usize, call: impl Fn(usize) -> c_int) -> c_int {
        if strips == 1 {
            return call(0);
        }
        // SAFETY: takes no pointers.
        let start = unsafe { (self.group_start)() };
        let codes: Vec<c_int> = (0..strips).map(call).collect();
        // SAFETY: as above.
        let end = unsafe { (self.group_end)() };
        let all = [start].into_iter().chain(codes).chain([end]);
        all.into_iter().find(|&code| code != SUCCESS).unwrap_or(SUCCESS)
    }

    /// Turns what a function returned into a `Result`; `comm` may know more, where it is not null.
    pub fn check(&self, code: c_int, comm: RawComm) -> Result<()> {
        if code == SUCCESS {
            return Ok(());
        }
        // The variable was set to 0: what is recorded next would come before the operation.
        ensure!(
            code != IN_PROGRESS,
            "NCCL returns before its work is queued: NCCL_COMM_BLOCKING in the environment must be 1"
        );
        // SAFETY: both return strings that NCCL keeps, or null; `comm` is alive or null, which the
        // second one takes too.
        let (what, last) =
            unsafe { (text((self.get_error_string)(code)), text((self.get_last_error)(comm))) };
        let last = if last.is_empty() { last } else { format!(" ({last})") };
        bail!("{what}{last}; NCCL_DEBUG=WARN in the environment says more")
    }

    /// A failure since the last call.
    ///
    /// # Safety
    /// `comm` is alive.
    pub unsafe fn failure(&self, comm: RawComm) -> Option<String> {
        let mut code = SUCCESS;
        // SAFETY: as promised by the caller; `code` outlives the call.
        let asked = unsafe { (self.get_async_error)(comm, &mut code) };
        if code == IN_PROGRESS {
            return None;
        }
        let error = self.check(asked, comm).and_then(|()| self.check(code, comm)).err()?;
        Some(format!("{error:#}"))
    }
}

/// # Safety
/// `pointer` is null or a C string.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().trim().to_owned()
}

/// `ncclDataType_t` of what [`reduces`](comm::reduce::reduces).
pub(crate) fn dtype(kind: Kind) -> Option<c_int> {
    Some(match kind {
        Kind::Uint8 => 1,
        Kind::Int => 2,
        Kind::Int64 => 4,
        Kind::Half => 6,
        Kind::Float => 7,
        Kind::Double => 8,
        Kind::BFloat16 => 9,
        _ => return None,
    })
}

/// `ncclUint8`: what is only moved travels as bytes, in any dtype.
pub(crate) const BYTES: c_int = 1;

/// `ncclRedOp_t`.
pub(crate) fn operation(op: ReduceOp) -> c_int {
    match op {
        ReduceOp::Sum => 0,
        ReduceOp::Max => 2,
    }
}
