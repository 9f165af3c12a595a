// A GPU that writes down what is asked of it, and does nothing. The real libtorch_cuda.so runs on these
// functions, which take the place of CUDA's runtime, cuBLAS, cuDNN, NCCL and the driver: its choice of kernels,
// its checks of their arguments and its allocator are the real ones, only the numbers are not (all are zero).
//
//   device.cpp    CUDA's runtime: devices, streams, events
//   memory.cpp    memory, and copies
//   kernels.cpp   kernels, by their names in libtorch
//   cublas.cpp    matrix products, and cuDNN's version
//   nccl.cpp      libnccl.so.2
//   driver.cpp    libcuda.so.1
//
// The first four are one library, which is preloaded, so that the linker finds these functions before CUDA's own.
// It looks like eight H100s. cuDNN says that it is too old, so attention is FlashAttention's: what cuDNN would be
// asked for goes to the real driver, past all of this.
//
// What it writes, a call in a line, goes to the file RECORD_GPU.RANK. `wait` is where the host waits for the GPU.
#pragma once

#include <cstddef>

namespace recorder {

// cudaError_t.
using Error = int;
constexpr Error SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONFIGURATION = 9, NOT_READY = 600;

// Bytes of an H100, and how many of them CUDA keeps for itself.
constexpr std::size_t MEMORY = 85'520'809'984, CONTEXT = 600'000'000;
// The most bytes that a block of threads shares.
constexpr int SHARED = 232'448;

// Writes a line. Formats as printf does.
[[gnu::format(printf, 1, 2)]] void say(const char* format, ...);

// A stream by a number of its own; 0 is the default stream.
unsigned stream(const void* stream);

}  // namespace recorder
