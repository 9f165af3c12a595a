//! The memory of a contiguous CPU tensor, as bytes.

use std::slice;
use tch::{Device, Tensor};

/// To read from. The tensor must be contiguous and on the CPU.
pub(crate) fn bytes(tensor: &Tensor) -> &[u8] {
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if length == 0 {
        return &[]; // the pointer of an empty tensor may be null
    }
    assert_plain(tensor);
    // SAFETY: a contiguous CPU tensor is `length` bytes from its data pointer on, and the reference
    // keeps them allocated. Nothing checks that nobody writes them meanwhile, as nothing does in
    // tch, whose tensors share memory: see `Group` on tensors in flight.
    unsafe { slice::from_raw_parts(tensor.data_ptr().cast(), length) }
}

/// To write into, past autograd. The tensor must be contiguous and on the CPU.
pub(crate) fn bytes_mut(tensor: &mut Tensor) -> &mut [u8] {
    let length = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if length == 0 {
        return &mut [];
    }
    assert_plain(tensor);
    // SAFETY: as in `bytes`; here nobody else may read them, either.
    unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast(), length) }
}

/// The bytes behind the pointer of a tensor with gaps, or on a GPU, are not its own.
fn assert_plain(tensor: &Tensor) {
    assert!(tensor.device() == Device::Cpu, "{tensor:?} is not in CPU memory");
    assert!(tensor.is_contiguous(), "{tensor:?} is not contiguous");
}

#[cfg(test)]
mod tests;
