// CUDA's runtime, as far as libtorch calls it.

#include "recorder.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace recorder {

static FILE* open() {
  const char* path = std::getenv("RECORD_GPU");
  const char* rank = std::getenv("RANK");
  if (path == nullptr) return nullptr;
  return std::fopen((std::string(path) + "." + (rank ? rank : "0")).c_str(), "w");
}

void say(const char* format, ...) {
  static FILE* file = open();
  if (file == nullptr) return;
  char line[4096];
  va_list rest;
  va_start(rest, format);
  std::vsnprintf(line, sizeof line, format, rest);
  va_end(rest);
  std::fprintf(file, "%s\n", line); // one call: lines of several threads do not mix
}

unsigned stream(const void* stream) { return reinterpret_cast<uintptr_t>(stream) / 16; }

}  // namespace recorder

using recorder::say;
using recorder::stream;

namespace {

using Error = int;
constexpr Error SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONFIGURATION = 9;
constexpr size_t MEMORY = 85'520'809'984, CONTEXT = 600'000'000; // bytes of an H100, and what CUDA keeps of them
constexpr int DEVICES = 8, PROCESSORS = 132, SHARED = 232'448;

struct Dim3 {
  unsigned x, y, z;
};

// The beginning of cudaDeviceProp in CUDA 13, up to what libtorch reads. Lists of limits are left zero.
struct Properties {
  char name[256], ids[28];
  size_t memory, shared_per_block;
  int registers_per_block, warp;
  size_t pitch;
  int threads_per_block, block[3], grid[3];
  size_t constants;
  int major, minor;
  size_t texture_alignment[2];
  int processors, limits[41];
  size_t surface_alignment;
  int more_limits[9], l2_bytes, persisting_l2, threads_per_processor, caches[3];
  size_t shared_per_processor;
  int registers_per_processor, abilities[9];
  size_t shared_per_block_at_most;
  int more_abilities[2], blocks_per_processor, window;
  size_t shared_reserved;
};

thread_local int device;
std::mutex guard;
std::map<uintptr_t, size_t> on_device, page_locked; // start, length
size_t used;

bool lies_in(std::map<uintptr_t, size_t>& blocks, const void* pointer) {
  std::lock_guard lock(guard);
  auto address = reinterpret_cast<uintptr_t>(pointer);
  auto after = blocks.upper_bound(address);
  return after != blocks.begin() && address < std::prev(after)->first + std::prev(after)->second;
}

void* next_handle() {
  static std::atomic<uintptr_t> handles{0};
  return reinterpret_cast<void*>(16 * ++handles); // 1 and 2 would be streams that CUDA has names for
}

// Nothing is copied to a GPU or on it, where all is zero and stays so.
Error copy(void* to, const void* from, size_t bytes, const void* on, bool host_waits) {
  bool up = lies_in(on_device, to), down = lies_in(on_device, from);
  const char* way = up && down ? "on" : up ? "up" : "down";
  bool waits = host_waits || (up != down && !lies_in(page_locked, up ? from : to));
  say("copy stream %u %s %zu", stream(on), way, bytes);
  if (waits) say("wait copy %s", way);
  if (down && !up) std::memset(to, 0, bytes);
  return SUCCESS;
}

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

const char* cudaGetErrorName(Error error) { return error == SUCCESS ? "cudaSuccess" : "an error of the recorder's"; }
const char* cudaGetErrorString(Error error) {
  return error == OUT_OF_MEMORY           ? "out of memory"
         : error == INVALID_CONFIGURATION ? "no GPU takes this grid or block"
                                          : cudaGetErrorName(error);
}
Error cudaGetLastError() { return SUCCESS; }
Error cudaPeekAtLastError() { return SUCCESS; }

// Devices.

Error cudaGetDeviceCount(int* count) { return *count = DEVICES, SUCCESS; }
Error cudaGetDevice(int* ordinal) { return *ordinal = device, SUCCESS; }
Error cudaSetDevice(int ordinal) { return device = ordinal, SUCCESS; }
Error cudaDriverGetVersion(int* version) { return *version = 13'000, SUCCESS; }
Error cudaRuntimeGetVersion(int* version) { return *version = 13'000, SUCCESS; }
Error cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 1, SUCCESS; }
Error cudaDeviceEnablePeerAccess(int, unsigned) { return SUCCESS; }
Error cudaDeviceGetPCIBusId(char* id, int length, int ordinal) {
  return std::snprintf(id, length, "0000:%02x:00.0", ordinal + 1), SUCCESS;
}
Error cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  if (least != nullptr) *least = 0;
  if (greatest != nullptr) *greatest = -5;
  return SUCCESS;
}
Error cudaDeviceSynchronize() { return say("wait device"), SUCCESS; }

Error cudaGetDeviceProperties(Properties* of, int) {
  std::memset(of, 0, sizeof *of);
  std::strcpy(of->name, "NVIDIA H100 80GB HBM3");
  of->memory = MEMORY;
  of->shared_per_block = 49'152;
  of->registers_per_block = of->registers_per_processor = 65'536;
  of->warp = 32;
  of->threads_per_block = of->block[0] = of->block[1] = 1024;
  of->block[2] = 64;
  of->grid[0] = 0x7fffffff;
  of->grid[1] = of->grid[2] = 65'535;
  of->major = 9;
  of->processors = PROCESSORS;
  of->l2_bytes = 50 << 20;
  of->threads_per_processor = 2048;
  of->shared_per_processor = 233'472;
  of->shared_per_block_at_most = SHARED;
  of->blocks_per_processor = 32;
  of->shared_reserved = 1024;
  return SUCCESS;
}

Error cudaDeviceGetAttribute(int* value, int attribute, int) {
  static const std::map<int, int> values = {{1, 1024}, {8, 49'152},  {10, 32},     {12, 65'536}, {16, PROCESSORS}, {39, 2048},
                                            {75, 9},   {76, 0},      {81, 233'472}, {82, 65'536}, {97, SHARED},     {106, 32}};
  auto known = values.find(attribute); // by their numbers in cudaDeviceAttr; the others say what it can do
  return *value = known == values.end() ? 1 : known->second, SUCCESS;
}

// Memory: addresses that nobody has written to take no room, and read as zero.

Error cudaMalloc(void** block, size_t bytes) {
  std::lock_guard lock(guard);
  if (used + bytes + CONTEXT > MEMORY) return OUT_OF_MEMORY;
  constexpr int FLAGS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  *block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, FLAGS, -1, 0);
  if (*block == MAP_FAILED) return OUT_OF_MEMORY;
  on_device[reinterpret_cast<uintptr_t>(*block)] = bytes;
  used += bytes;
  say("malloc %zu", bytes);
  return SUCCESS;
}

Error cudaFree(void* block) {
  if (block == nullptr) return SUCCESS;
  say("wait free");
  std::lock_guard lock(guard);
  auto found = on_device.find(reinterpret_cast<uintptr_t>(block));
  if (found == on_device.end()) return INVALID_VALUE;
  munmap(block, found->second);
  used -= found->second;
  on_device.erase(found);
  return SUCCESS;
}

Error cudaMemGetInfo(size_t* left, size_t* all) { return *left = MEMORY - CONTEXT - used, *all = MEMORY, SUCCESS; }

Error cudaHostAlloc(void** block, size_t bytes, unsigned) {
  *block = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  std::lock_guard lock(guard);
  page_locked[reinterpret_cast<uintptr_t>(*block)] = bytes;
  return SUCCESS;
}

Error cudaFreeHost(void* block) {
  std::lock_guard lock(guard);
  page_locked.erase(reinterpret_cast<uintptr_t>(block));
  std::free(block);
  return SUCCESS;
}

struct Pointer {
  int kind, device;
  void *on_device, *on_host;
  long reserved[8];
};

Error cudaPointerGetAttributes(Pointer* of, const void* pointer) {
  *of = {};
  auto* address = const_cast<void*>(pointer);
  if (lies_in(on_device, pointer)) of->kind = 2, of->on_device = address;
  if (lies_in(page_locked, pointer)) of->kind = 1, of->on_host = address;
  return SUCCESS;
}

Error cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, void* on) { return copy(to, from, bytes, on, false); }
Error cudaMemcpy(void* to, const void* from, size_t bytes, int) { return copy(to, from, bytes, nullptr, true); }
Error cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, void* on) {
  return copy(to, from, bytes, on, false);
}
Error cudaMemcpyToSymbol(const void*, const void*, size_t, size_t, int) { return SUCCESS; }
Error cudaMemset(void*, int, size_t) { return SUCCESS; }
Error cudaMemsetAsync(void*, int, size_t bytes, void* on) { return say("set stream %u %zu", stream(on), bytes), SUCCESS; }
Error cudaGetSymbolAddress(void** address, const void*) {
  static char symbol[1 << 16];
  return *address = symbol, SUCCESS;
}

// Streams and events. All that was queued is done at once.

Error cudaStreamCreateWithPriority(void** made, unsigned, int) {
  *made = next_handle();
  return say("stream %u", stream(*made)), SUCCESS;
}
Error cudaStreamDestroy(void*) { return SUCCESS; }
Error cudaStreamQuery(void*) { return SUCCESS; }
Error cudaStreamSynchronize(void* on) { return say("wait stream %u", stream(on)), SUCCESS; }
Error cudaStreamWaitEvent(void* on, void* event, unsigned) {
  return say("after stream %u event %u", stream(on), stream(event)), SUCCESS;
}
Error cudaStreamIsCapturing(void*, int* status) { return *status = 0, SUCCESS; }
Error cudaStreamGetCaptureInfo(void*, int* status, unsigned long long* id, void*, void*, void*, size_t*) {
  if (id != nullptr) *id = 0;
  return *status = 0, SUCCESS;
}
Error cudaThreadExchangeStreamCaptureMode(int*) { return SUCCESS; }
Error cudaEventCreate(void** made) { return *made = next_handle(), SUCCESS; }
Error cudaEventCreateWithFlags(void** made, unsigned) { return *made = next_handle(), SUCCESS; }
Error cudaEventDestroy(void*) { return SUCCESS; }
Error cudaEventRecord(void* event, void* on) { return say("event stream %u event %u", stream(on), stream(event)), SUCCESS; }
Error cudaEventRecordWithFlags(void* event, void* on, unsigned) { return cudaEventRecord(event, on); }
Error cudaEventQuery(void*) { return SUCCESS; }
Error cudaEventSynchronize(void* event) { return say("wait event %u", stream(event)), SUCCESS; }
Error cudaEventElapsedTime(float* milliseconds, void*, void*) { return *milliseconds = 1, SUCCESS; }

// Kernels. A library names its own as it is opened.

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
Error cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long, int* found) {
  static void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  *function = driver ? dlsym(driver, name) : nullptr;
  if (found != nullptr) *found = *function ? 0 : 1;
  return *function ? SUCCESS : INVALID_VALUE;
}

}  // extern "C"
