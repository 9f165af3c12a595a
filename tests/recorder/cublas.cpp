// cuBLAS: a product is a line. Matrices are as BLAS has them, by columns: m·k times k·n.

#include "recorder.h"

#include <cstddef>

using recorder::say;
using recorder::stream;

namespace {

using Status = int;
constexpr Status SUCCESS = 0;
thread_local void* on;
thread_local int math_mode;

const char* dtype(int type) { // cudaDataType
  return type == 0 ? "f32" : type == 1 ? "f64" : type == 2 ? "f16" : type == 14 ? "bf16" : "other";
}

Status product(const char* in, const char* out, int m, int n, int k, int batch) {
  say("product stream %u %d x %d x %d batch %d %s to %s", stream(on), m, n, k, batch, in, out);
  return SUCCESS;
}

}  // namespace

extern "C" {

Status cublasCreate_v2(void** handle) {
  static char made;
  return *handle = &made, SUCCESS;
}
Status cublasDestroy_v2(void*) { return SUCCESS; }
Status cublasSetStream_v2(void*, void* stream) { return on = stream, SUCCESS; }
Status cublasSetWorkspace_v2(void*, void*, size_t) { return SUCCESS; }
Status cublasSetMathMode(void*, int mode) { return math_mode = mode, SUCCESS; }
Status cublasGetMathMode(void*, int* mode) { return *mode = math_mode, SUCCESS; }
Status cublasSetPointerMode_v2(void*, int) { return SUCCESS; }
Status cublasGetPointerMode_v2(void*, int* mode) { return *mode = 0, SUCCESS; }

Status cublasGemmEx(void*, int, int, int m, int n, int k, const void*, const void*, int in, int, const void*, int, int,
                    const void*, void*, int out, int, int, int) {
  return product(dtype(in), dtype(out), m, n, k, 1);
}
Status cublasGemmStridedBatchedEx(void*, int, int, int m, int n, int k, const void*, const void*, int in, int,
                                  long long, const void*, int, int, long long, const void*, void*, int out, int,
                                  long long, int batch, int, int) {
  return product(dtype(in), dtype(out), m, n, k, batch);
}

#define REAL(LETTER, TYPE, NAME)                                                                                    \
  Status cublas##LETTER##gemm_v2(void*, int, int, int m, int n, int k, const TYPE*, const TYPE*, int, const TYPE*,  \
                                 int, const TYPE*, TYPE*, int) {                                                    \
    return product(NAME, NAME, m, n, k, 1);                                                                         \
  }                                                                                                                 \
  Status cublas##LETTER##gemmStridedBatched(void*, int, int, int m, int n, int k, const TYPE*, const TYPE*, int,    \
                                            long long, const TYPE*, int, long long, const TYPE*, TYPE*, int,        \
                                            long long, int batch) {                                                 \
    return product(NAME, NAME, m, n, k, batch);                                                                     \
  }                                                                                                                 \
  Status cublas##LETTER##gemv_v2(void*, int, int m, int n, const TYPE*, const TYPE*, int, const TYPE*, int,         \
                                 const TYPE*, TYPE*, int) {                                                         \
    return product(NAME, NAME, m, 1, n, 1);                                                                         \
  }
REAL(S, float, "f32")
REAL(D, double, "f64")

// Too old for its attention, which goes past what is recorded here.
size_t cudnnGetVersion() { return 0; }

}  // extern "C"
