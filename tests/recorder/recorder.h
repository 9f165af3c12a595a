// A GPU that writes down what is asked of it, and does nothing. The real libtorch_cuda.so runs on these
// functions, which take the place of CUDA's runtime, cuBLAS, cuDNN, NCCL and the driver: its choice of kernels,
// its checks of their arguments and its allocator are the real ones, only the numbers are not (all are zero).
//
//   runtime.cpp   memory, streams, events, kernels: preloaded, so that the linker finds these first
//   cublas.cpp    matrix products, and cuDNN's version: preloaded with it
//   nccl.cpp      libnccl.so.2
//   driver.cpp    libcuda.so.1
//
// It looks like eight H100s. cuDNN says it is too old, so attention is FlashAttention's: what cuDNN would be
// asked for goes to the real driver, past all of this.
//
// What it writes, a call in a line, goes to the file RECORD_GPU.RANK. `wait` is where the host waits for the GPU.
#pragma once

namespace recorder {

// Writes a line. Formats as printf does.
[[gnu::format(printf, 1, 2)]] void say(const char* format, ...);

// A stream by a number of its own; 0 is the default stream.
unsigned stream(const void* stream);

}  // namespace recorder
