// Devices, streams and events.

#include "stand_in.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace stand_in {
namespace {

using Clock = std::chrono::steady_clock;
using namespace c10;

// How long a side stream leaves each job before it starts it.
constexpr auto LATE = std::chrono::microseconds(200);

// A point in a stream.
struct Point {
  std::mutex mutex;
  std::condition_variable reached;
  bool passed = false;
  Clock::time_point when;

  void pass() {
    std::lock_guard<std::mutex> lock(mutex);
    passed = true;
    when = Clock::now();
    reached.notify_all();
  }
  bool is_passed() {
    std::lock_guard<std::mutex> lock(mutex);
    return passed;
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    reached.wait(lock, [&] { return passed; });
  }
};

using Event = std::shared_ptr<Point>;

// Jobs that side streams have been given and have not done.
std::mutex unfinished_mutex;
std::condition_variable finished;
int unfinished = 0;

void count(int change) {
  std::lock_guard<std::mutex> lock(unfinished_mutex);
  unfinished += change;
  finished.notify_all();
}

// A side stream: a thread that does one job after the other.
struct Queue {
  std::mutex mutex;
  std::condition_variable more;
  std::deque<std::function<void()>> jobs;

  Queue() { std::thread([this] { work(); }).detach(); }

  void push(std::function<void()> job) {
    count(1);
    std::lock_guard<std::mutex> lock(mutex);
    jobs.push_back(std::move(job));
    more.notify_one();
  }
  void work() {
    for (;;) {
      std::unique_lock<std::mutex> lock(mutex);
      more.wait(lock, [&] { return !jobs.empty(); });
      auto job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      std::this_thread::sleep_for(LATE);
      job();
      count(-1);
    }
  }
};

constexpr int NEEDED = 13000;  // the version of CUDA that libtorch is made for

constexpr StreamId SIDE_STREAMS = 32;

// Side stream 1 to 32 of a device, made when it is first asked for, and never ended.
Queue& side(DeviceIndex device, StreamId id) {
  static std::mutex mutex;
  static std::array<std::array<Queue*, SIDE_STREAMS + 1>, DEVICES> all{};
  std::lock_guard<std::mutex> lock(mutex);
  auto& queue = all.at(device).at(id);
  if (queue == nullptr) queue = new Queue;
  return *queue;
}

// Stream 0 computes. Its work is done by whoever queues it, before that call returns; so what it waits
// for, the host waits for. That is an accident of the stand-in, and not counted.
void run(Stream stream, std::function<void()> job) {
  stream.id() == 0 ? job() : side(stream.device_index(), stream.id()).push(std::move(job));
}

thread_local DeviceIndex current = 0;  // the device of the calling thread

struct Guard final : impl::DeviceGuardImplInterface {
  DeviceType type() const override { return CUDA; }
  Device getDevice() const override { return Device(CUDA, current); }
  DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  void uncheckedSetDevice(Device d) const noexcept override { current = d.index(); }
  void setDevice(Device d) const override {
    TORCH_CHECK(d.index() >= 0 && d.index() < DEVICES, "CUDA error: invalid device ordinal");
    current = d.index();
  }
  Device exchangeDevice(Device d) const override {
    Device before = getDevice();
    if (d.has_index()) setDevice(d);
    return before;
  }

  Stream getStream(Device d) const override { return Stream(Stream::UNSAFE, indexed(d), 0); }
  Stream getDefaultStream(Device d) const override { return getStream(d); }
  Stream exchangeStream(Stream s) const override {
    TORCH_CHECK(s.id() == 0, "the stand-in computes on the default stream alone");
    return s;
  }
  Stream getStreamFromGlobalPool(Device d, bool) const override {
    static std::atomic<StreamId> next{0};
    return Stream(Stream::UNSAFE, indexed(d), 1 + next++ % SIDE_STREAMS);
  }
  void* getStreamNativeHandle(const Stream s) const override {
    return s.id() == 0 ? nullptr : &side(s.device_index(), s.id());
  }
  bool queryStream(const Stream& s) const override { return finish(s)->is_passed(); }
  void synchronizeStream(const Stream& s) const override {
    host_waited("a stream");
    finish(s)->wait();
  }
  void synchronizeDevice(DeviceIndex device) const override {
    host_waited("the device");
    for (StreamId id = 1; id <= SIDE_STREAMS; id++) finish(Stream(Stream::UNSAFE, Device(CUDA, device), id))->wait();
  }

  void record(void** event, const Stream& s, DeviceIndex, EventFlag) const override {
    if (*event == nullptr) *event = new Event;
    *static_cast<Event*>(*event) = finish(s);
  }
  void block(void* event, const Stream& s) const override {
    run(s, [point = *static_cast<Event*>(event)] { point->wait(); });
  }
  bool queryEvent(void* event) const override { return (*static_cast<Event*>(event))->is_passed(); }
  void synchronizeEvent(void* event) const override {
    host_waited("an event");
    (*static_cast<Event*>(event))->wait();
  }
  double elapsedTime(void* from, void* to, DeviceIndex) const override {
    auto time = [](void* event) { return (*static_cast<Event*>(event))->when; };
    return std::chrono::duration<double, std::milli>(time(to) - time(from)).count();
  }
  void destroyEvent(void* event, DeviceIndex device) const noexcept override {
    // CUDA goes to the event's device and back to the thread's, which opens that one.
    if (device != current) {
      std::fprintf(stderr, "stand-in: a thread on GPU %d destroys an event of GPU %d\n", current, device);
      std::abort();
    }
    delete static_cast<Event*>(event);
  }

 private:
  static Device indexed(Device d) { return d.has_index() ? d : Device(CUDA, current); }
  static Event finish(Stream s) {
    auto point = std::make_shared<Point>();
    run(s, [point] { point->pass(); });
    return point;
  }
};

// Of the driver, as CUDA writes it: 12040 for 12.4.
int driver_version() {
  const char* version = std::getenv("STAND_IN_DRIVER");
  return version != nullptr ? std::atoi(version) : NEEDED;
}

// A driver that is too old shows no GPU.
DeviceIndex devices() { return driver_version() < NEEDED ? 0 : DEVICES; }

struct CUDAHooks final : at::CUDAHooksInterface {
  explicit CUDAHooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return devices() > 0; }
  bool hasCUDA() const override { return devices() > 0; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return devices(); }
  DeviceIndex deviceCount() const override { return devices(); }
  DeviceIndex current_device() const override { return current; }
  Allocator* getPinnedMemoryAllocator() const override { return page_locked(); }
  bool isPinnedPtr(const void* data) const override { return is_page_locked(data); }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

}  // namespace

void wait_until_idle() {
  std::unique_lock<std::mutex> lock(unfinished_mutex);
  finished.wait(lock, [] { return unfinished == 0; });
}

void queue(void* stream, std::function<void()> job) {
  stream == nullptr ? job() : static_cast<Queue*>(stream)->push(std::move(job));
}

void host_waited(const char* why) {
  static const char* tell = std::getenv("STAND_IN_WAITS");
  if (tell != nullptr) std::fprintf(stderr, "stand-in: the host waits for %s\n", why);
}

}  // namespace stand_in

namespace at {
using stand_in::CUDAHooks;
REGISTER_CUDA_HOOKS(CUDAHooks);
}  // namespace at

// The driver and the runtime, as far as a program asks what is there: STAND_IN_CAPABILITY=7.5 makes the GPU an
// old one, and STAND_IN_DRIVER=12040 the driver.
extern "C" {
int cuDriverGetVersion(int* version) { return *version = stand_in::driver_version(), 0; }
int cudaRuntimeGetVersion(int* version) { return *version = stand_in::NEEDED, 0; }
int cuInit(unsigned) { return 0; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal < stand_in::DEVICES ? 0 : 101; }
int cuDeviceGetName(char* name, int length, int) {
  std::snprintf(name, length, "NVIDIA H100 80GB HBM3");
  return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
  constexpr int COMPUTE_MODE = 20, EXCLUSIVE_PROCESS = 3, MAJOR = 75, MINOR = 76;
  const char* old = std::getenv("STAND_IN_CAPABILITY");
  int major = 9, minor = 0;
  if (old != nullptr) std::sscanf(old, "%d.%d", &major, &minor);
  *value = attribute == MAJOR ? major : attribute == MINOR ? minor : 0;
  if (attribute == COMPUTE_MODE && std::getenv("STAND_IN_EXCLUSIVE") != nullptr) *value = EXCLUSIVE_PROCESS;
  return 0;
}
}
