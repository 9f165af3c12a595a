//! The memory of a contiguous CPU tensor, as bytes.

use std::slice;
use tch::Tensor;

/// To read from. The tensor must be contiguous and on the CPU.
pub(crate) fn bytes(tensor: &Tensor) -> &[u8] {
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if length == 0 {
        return &[]; // the pointer of an empty tensor may be null
    }
    debug_assert!(tensor.is_contiguous());
    // SAFETY: a contiguous CPU tensor is `length` bytes from its data pointer on, and the reference
    // keeps them allocated. Nobody writes them meanwhile: the caller of an operation promises to
    // leave its tensor alone until the operation is done.
    unsafe { slice::from_raw_parts(tensor.data_ptr().cast(), length) }
}

/// To write into, past autograd. The tensor must be contiguous and on the CPU.
pub(crate) fn bytes_mut(tensor: &mut Tensor) -> &mut [u8] {
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if length == 0 {
        return &mut [];
    }
    debug_assert!(tensor.is_contiguous());
    // SAFETY: as in `bytes`; that nobody else reads or writes the tensor until the operation is done
    // is the same promise.
    unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast(), length) }
}
