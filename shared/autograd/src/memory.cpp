// Observes what libtorch allocates and frees on a CPU, for the thread that allocates. memory.rs holds the
// other half.
//
// libtorch's own observer is told on the thread that frees. A tensor's last reference is often dropped by
// another thread than the rank's, one that has sent it. So here the allocation itself remembers its account.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

// In memory.rs, too.
struct Change {
  uint64_t nanoseconds;
  int64_t bytes;
};

// What the tensors of one thread hold. It lives until the last of them is freed.
struct Account {
  std::mutex mutex;
  int64_t held = 0;
  bool is_recording = false;
  Clock::time_point start;
  std::vector<Change> changes;

  void add(int64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    held += bytes;
    if (!is_recording) return;
    auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
    changes.push_back({static_cast<uint64_t>(since), bytes});
  }
};

// The account of this thread, if it is observed. A bare pointer beside its owner: it can be read when the
// thread ends and its owner is gone.
thread_local Account* account = nullptr;

struct Owner {
  std::shared_ptr<Account> account;
  ~Owner() { ::account = nullptr; }
};
thread_local Owner owner;

// An observed allocation that is alive.
struct Entry {
  std::shared_ptr<Account> account;
  int64_t bytes;
  c10::DeleterFnPtr deleter;
};

struct Entries {
  std::mutex mutex;
  std::unordered_map<void*, Entry> of;
};

// By their contexts, which stay what they were: oneDNN allocates through `raw_allocate`, which demands that a
// context is the memory itself. Never destroyed: tensors in statics are freed after everything else.
Entries& entries() {
  static auto* all = new Entries;
  return *all;
}

// The allocator that was there, and an entry for what an observed thread takes from it.
struct Observer : c10::Allocator {
  c10::Allocator* below;
  explicit Observer(c10::Allocator* below) : below(below) {}

  // The one in place, once there is one.
  static Observer*& instance() {
    static Observer* it = nullptr;
    return it;
  }

  c10::DataPtr allocate(size_t bytes) override {
    c10::DataPtr data = below->allocate(bytes);
    if (account == nullptr || data.get_context() == nullptr) return data;
    auto signed_bytes = static_cast<int64_t>(bytes);
    {
      std::lock_guard<std::mutex> lock(entries().mutex);
      entries().of[data.get_context()] = {owner.account, signed_bytes, data.get_deleter()};
    }
    (void)data.compare_exchange_deleter(data.get_deleter(), &release);  // it is compared with itself
    account->add(signed_bytes);
    return data;
  }

  // On whichever thread, also of what `raw_allocate` gave to one that is not observed.
  static void release(void* context) {
    Entry entry{nullptr, 0, nullptr};
    {
      std::lock_guard<std::mutex> lock(entries().mutex);
      auto found = entries().of.find(context);
      if (found != entries().of.end()) {
        entry = std::move(found->second);
        entries().of.erase(found);
      }
    }
    if (entry.account != nullptr) entry.account->add(-entry.bytes);
    auto deleter = entry.account != nullptr ? entry.deleter : instance()->below->raw_deleter();
    deleter(context);
  }

  c10::DeleterFnPtr raw_deleter() const override { return below->raw_deleter() == nullptr ? nullptr : &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { below->copy_data(to, from, bytes); }
};

}  // namespace

extern "C" {

// Gives the calling thread an account, until it ends.
char* ferrotron_observe_memory() {
  try {
    static std::once_flag once;
    std::call_once(once, [] {
      Observer::instance() = new Observer(c10::GetCPUAllocator());  // libtorch wants it to live for ever
      c10::SetCPUAllocator(Observer::instance(), /*priority=*/UINT8_MAX);
    });
    if (account == nullptr) {
      owner.account = std::make_shared<Account>();
      account = owner.account.get();
    }
    return nullptr;
  } catch (const std::exception& e) {
    return strdup(e.what());
  }
}

// False if it records already. The thread is observed.
bool ferrotron_start_recording(int64_t* held) {
  std::lock_guard<std::mutex> lock(account->mutex);
  if (account->is_recording) return false;
  account->is_recording = true;
  account->changes.clear();
  account->start = Clock::now();
  *held = account->held;
  return true;
}

// The changes since, malloc'd; nullptr if there are none.
Change* ferrotron_stop_recording(size_t* n) {
  *n = 0;
  if (account == nullptr) return nullptr;  // the thread is ending
  std::vector<Change> changes;
  {
    std::lock_guard<std::mutex> lock(account->mutex);
    account->is_recording = false;
    changes.swap(account->changes);
  }
  auto* out = static_cast<Change*>(std::malloc(changes.size() * sizeof(Change)));
  if (out == nullptr || changes.empty()) return std::free(out), nullptr;
  std::memcpy(out, changes.data(), changes.size() * sizeof(Change));
  *n = changes.size();
  return out;
}
}
