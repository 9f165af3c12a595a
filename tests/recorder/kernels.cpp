// Kernels. A library names its own as it is opened.

#include "recorder.h"

#include <unordered_map>
#include <vector>

using namespace recorder;

namespace {

struct Dim3 {
  unsigned x, y, z;
};

struct Configuration {
  Dim3 grid, block;
  size_t shared;
  void* stream;
};
thread_local std::vector<Configuration> configurations;

std::unordered_map<const void*, const char*>& names() {
  static std::unordered_map<const void*, const char*> names; // libraries register before this file's globals exist
  return names;
}

Error launch(const void* kernel, Dim3 grid, Dim3 block, size_t shared, const void* on) {
  auto known = names().find(kernel);
  say("kernel stream %u grid %u,%u,%u block %u,%u,%u %s", stream(on), grid.x, grid.y, grid.z, block.x, block.y,
      block.z, known == names().end() ? "unknown" : known->second);
  unsigned threads = block.x * block.y * block.z;
  bool fits = grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffff && grid.y <= 65535 && grid.z <= 65535 &&
              threads > 0 && threads <= 1024 && block.z <= 64 && shared <= SHARED;
  return fits ? SUCCESS : INVALID_CONFIGURATION;
}

}  // namespace

extern "C" {

void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
void __cudaRegisterFunction(void**, const char* kernel, char*, const char* name, int, void*, void*, void*, void*, int*) {
  names()[kernel] = name;
}
unsigned __cudaPushCallConfiguration(Dim3 grid, Dim3 block, size_t shared, void* on) {
  return configurations.push_back({grid, block, shared, on}), 0;
}
Error __cudaPopCallConfiguration(Dim3* grid, Dim3* block, size_t* shared, void** on) {
  auto last = configurations.back();
  configurations.pop_back();
  *grid = last.grid, *block = last.block, *shared = last.shared, *on = last.stream;
  return SUCCESS;
}
Error __cudaGetKernel(const void** kernel, const void* of) { return *kernel = of, SUCCESS; }
Error __cudaLaunchKernel(const void* kernel, Dim3 grid, Dim3 block, void**, size_t shared, void* on) {
  return launch(kernel, grid, block, shared, on);
}
Error cudaLaunchKernel(const void* kernel, Dim3 grid, Dim3 block, void**, size_t shared, void* on) {
  return launch(kernel, grid, block, shared, on);
}
Error cudaLaunchKernelExC(const Configuration* how, const void* kernel, void**) {
  return launch(kernel, how->grid, how->block, how->shared, how->stream);
}

struct Attributes {
  size_t shared, constants, local;
  int threads_per_block, registers, ptx, binary, cache, shared_at_most, rest[24];
};
Error cudaFuncGetAttributes(Attributes* of, const void*) {
  *of = {};
  of->threads_per_block = 1024, of->registers = 32, of->ptx = of->binary = 90, of->shared_at_most = SHARED;
  return SUCCESS;
}
Error cudaFuncSetAttribute(const void*, int, int) { return SUCCESS; }
Error cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int threads, size_t, unsigned) {
  return *blocks = 2048 / threads, SUCCESS;
}

}  // extern "C"
