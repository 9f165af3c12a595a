// Memory: the device's, and the host's that a device could read by itself.

#include "stand_in.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>

namespace stand_in {
namespace {

using namespace c10;

struct Memory final : DeviceAllocator {
  std::atomic<int64_t> held{0}, peak{0};

  const bool idle = std::getenv("STAND_IN_ALLOCATES_IDLE") != nullptr;

  DataPtr allocate(size_t bytes) override {
    if (idle) wait_until_idle();
    auto* block = static_cast<size_t*>(std::aligned_alloc(64, 64 + (bytes + 63) / 64 * 64));
    TORCH_CHECK(block != nullptr, "CUDA out of memory");
    *block = bytes;
    int64_t now = held += static_cast<int64_t>(bytes);
    for (int64_t most = peak; now > most && !peak.compare_exchange_weak(most, now);) {
    }
    return DataPtr(block + 8, block, &Memory::release, Device(CUDA, impl::getDeviceGuardImpl(CUDA)->getDevice().index()));
  }
  static void release(void* block) {
    size_t bytes = *static_cast<size_t*>(block);
    static_cast<Memory*>(memory())->held -= static_cast<int64_t>(bytes);
    std::memset(static_cast<char*>(block) + 64, 0xff, bytes);  // not a number, in any dtype
    std::free(block);
  }
  DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, size_t n) const override { std::memcpy(to, from, n); }

  bool initialized() override { return true; }
  void emptyCache(MempoolId_t) override {}
  void recordStream(const DataPtr&, Stream) override {}
  CachingDeviceAllocator::DeviceStats getDeviceStats(DeviceIndex) override {
    CachingDeviceAllocator::DeviceStats stats;
    auto& all = stats.allocated_bytes[static_cast<size_t>(CachingAllocator::StatType::AGGREGATE)];
    all.current = held;
    all.peak = peak;
    return stats;
  }
  void resetAccumulatedStats(DeviceIndex) override {}
  void resetPeakStats(DeviceIndex) override { peak = held.load(); }
};

// Any memory of the host's would serve; which of it was asked for as page-locked is remembered, for only
// from there is a copy queued.
struct PageLocked final : Allocator {
  std::mutex mutex;
  std::set<const void*> blocks;

  DataPtr allocate(size_t bytes) override {
    void* block = std::malloc(bytes == 0 ? 1 : bytes);
    std::lock_guard<std::mutex> lock(mutex);
    blocks.insert(block);
    return DataPtr(block, block, &PageLocked::release, Device(DeviceType::CPU));
  }
  static void release(void* block) {
    auto* all = static_cast<PageLocked*>(page_locked());
    std::lock_guard<std::mutex> lock(all->mutex);
    all->blocks.erase(block);
    std::free(block);
  }
  DeleterFnPtr raw_deleter() const override { return &PageLocked::release; }
  void copy_data(void* to, const void* from, size_t n) const override { std::memcpy(to, from, n); }
};

struct Registered {
  Registered() { SetAllocator(CUDA, memory(), /*priority=*/1); }
} registered;

}  // namespace

Allocator* memory() {
  static auto* memory = new Memory;
  return memory;
}

Allocator* page_locked() {
  static auto* memory = new PageLocked;
  return memory;
}

bool is_page_locked(const void* block) {
  auto* all = static_cast<PageLocked*>(page_locked());
  std::lock_guard<std::mutex> lock(all->mutex);
  return all->blocks.count(block) > 0;
}

}  // namespace stand_in
