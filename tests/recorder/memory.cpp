// Memory: addresses that nobody has written to take no room, and read as zero.

#include "recorder.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>

using namespace recorder;

namespace {

std::mutex guard;
std::map<uintptr_t, size_t> on_device, page_locked; // start, length
size_t used;

bool lies_in(std::map<uintptr_t, size_t>& blocks, const void* pointer) {
  std::lock_guard lock(guard);
  auto address = reinterpret_cast<uintptr_t>(pointer);
  auto after = blocks.upper_bound(address);
  return after != blocks.begin() && address < std::prev(after)->first + std::prev(after)->second;
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

}  // namespace

extern "C" {

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

Error cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, void* on) {
  return copy(to, from, bytes, on, false);
}
Error cudaMemcpy(void* to, const void* from, size_t bytes, int) { return copy(to, from, bytes, nullptr, true); }
Error cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, void* on) {
  return copy(to, from, bytes, on, false);
}
Error cudaMemcpyToSymbol(const void*, const void*, size_t, size_t, int) { return SUCCESS; }
Error cudaMemset(void*, int, size_t) { return SUCCESS; }
Error cudaMemsetAsync(void*, int, size_t bytes, void* on) {
  return say("set stream %u %zu", stream(on), bytes), SUCCESS;
}
Error cudaGetSymbolAddress(void** address, const void*) {
  static char symbol[1 << 16];
  return *address = symbol, SUCCESS;
}

}  // extern "C"
