// Devices, streams and events. The GPU is as far behind as it can be: nothing is done before the host waits.

#include "recorder.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

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

using namespace recorder;

namespace {

constexpr int DEVICES = 8, PROCESSORS = 132;

// How often the host has waited, and how often it had when each event was queued.
std::atomic<unsigned long> waits = 1;
std::map<void*, unsigned long> recorded;
std::mutex events;

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

void* next_handle() {
  static std::atomic<uintptr_t> handles{0};
  return reinterpret_cast<void*>(16 * ++handles); // 1 and 2 would be streams that CUDA has names for
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
Error cudaDeviceSynchronize() { return waits++, say("wait device"), SUCCESS; }

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
  static const std::map<int, int> values = { // by their numbers in cudaDeviceAttr
      {1, 1024},    {8, 49'152},   {10, 32},    // threads a block, bytes it shares, threads a warp
      {12, 65'536}, {82, 65'536},  {39, 2048},  // registers a block, and a processor; its threads
      {16, PROCESSORS}, {75, 9},   {76, 0},     // processors; compute capability
      {81, 233'472}, {97, SHARED}, {106, 32},   // bytes that a processor shares, and a block at most; its blocks
  };
  auto known = values.find(attribute); // the others say what it can do
  return *value = known == values.end() ? 1 : known->second, SUCCESS;
}

// Streams and events.

Error cudaStreamCreateWithPriority(void** made, unsigned, int) {
  *made = next_handle();
  return say("stream %u", stream(*made)), SUCCESS;
}
Error cudaStreamDestroy(void*) { return SUCCESS; }
Error cudaStreamQuery(void*) { return SUCCESS; }
Error cudaStreamSynchronize(void* on) { return waits++, say("wait stream %u", stream(on)), SUCCESS; }
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
Error cudaEventRecord(void* event, void* on) {
  std::lock_guard<std::mutex> lock(events);
  recorded[event] = waits;
  return say("event stream %u event %u", stream(on), stream(event)), SUCCESS;
}
Error cudaEventRecordWithFlags(void* event, void* on, unsigned) { return cudaEventRecord(event, on); }
Error cudaEventQuery(void* event) {
  std::lock_guard<std::mutex> lock(events);
  auto at = recorded.find(event);
  return at == recorded.end() || at->second < waits ? SUCCESS : NOT_READY;
}
Error cudaEventSynchronize(void* event) { return waits++, say("wait event %u", stream(event)), SUCCESS; }
Error cudaEventElapsedTime(float* milliseconds, void*, void*) { return *milliseconds = 1, SUCCESS; }

Error cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long, int* found) {
  static void* driver = dlopen("libcuda.so.1", RTLD_NOW);
  *function = driver ? dlsym(driver, name) : nullptr;
  if (found != nullptr) *found = *function ? 0 : 1;
  return *function ? SUCCESS : INVALID_VALUE;
}

}  // extern "C"
