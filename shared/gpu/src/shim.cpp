// Streams, events, memory statistics and queued copies of a GPU, behind a C interface. ffi.rs holds the other half.
//
// All of it goes through interfaces of libc10 that work for any kind of device: so nothing here links
// CUDA, and without the library that registers it every call ends in a message.
//
// No exception crosses into Rust: a call that can fail returns nullptr, or a message that stays until
// the same thread calls again.

#include <ATen/core/Tensor.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <exception>
#include <memory>
#include <string>

namespace {

constexpr auto CUDA = c10::DeviceType::CUDA;

c10::Device device(int ordinal) { return c10::Device(CUDA, static_cast<c10::DeviceIndex>(ordinal)); }

c10::impl::VirtualGuardImpl cuda() { return c10::impl::VirtualGuardImpl(CUDA); }

template <typename F>
const char* guarded(F body) {
  static thread_local std::string message;
  try {
    body();
    return nullptr;
  } catch (const std::exception& e) {
    message = e.what();
  } catch (...) {
    message = "an exception of unknown type";
  }
  return message.c_str();
}

}  // namespace

extern "C" {

const char* ferrotron_gpu_set_device(int ordinal) {
  return guarded([&] { cuda().setDevice(device(ordinal)); });
}

const char* ferrotron_gpu_synchronize(int ordinal) {
  return guarded([&] { cuda().synchronizeDevice(static_cast<c10::DeviceIndex>(ordinal)); });
}

// The allocator's peak on the calling thread's device, in bytes of tensors alive at one time.
const char* ferrotron_gpu_peak_memory(int64_t* bytes) {
  return guarded([&] {
    auto stats = at::getDeviceAllocator(CUDA)->getDeviceStats(cuda().getDevice().index());
    constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *bytes = stats.allocated_bytes[all].peak;
  });
}

// The stream on which the calling thread's operations run.
const char* ferrotron_gpu_current_stream(int ordinal, c10::Stream** stream) {
  return guarded([&] { *stream = new c10::Stream(cuda().getStream(device(ordinal))); });
}

// One of 32 streams of high priority, in turn.
const char* ferrotron_gpu_side_stream(int ordinal, c10::Stream** stream) {
  return guarded([&] { *stream = new c10::Stream(cuda().getStreamFromGlobalPool(device(ordinal), true)); });
}

const char* ferrotron_gpu_stream_handle(const c10::Stream* stream, void** handle) {
  return guarded([&] { *handle = stream->native_handle(); });
}

void ferrotron_gpu_drop_stream(c10::Stream* stream) { delete stream; }

// An event at the end of what is queued on `stream`; with `timed`, it can be measured from others.
const char* ferrotron_gpu_record(const c10::Stream* stream, bool timed, c10::Event** event) {
  return guarded([&] {
    auto flag = timed ? c10::EventFlag::BACKEND_DEFAULT : c10::EventFlag::PYTORCH_DEFAULT;
    auto fresh = std::make_unique<c10::Event>(CUDA, flag);
    fresh->record(*stream);
    *event = fresh.release();
  });
}

// What is queued on `stream` from now on starts after the event.
const char* ferrotron_gpu_wait(const c10::Stream* stream, const c10::Event* event) {
  return guarded([&] { event->block(*stream); });
}

const char* ferrotron_gpu_query(const c10::Event* event, bool* done) {
  return guarded([&] { *done = event->query(); });
}

const char* ferrotron_gpu_synchronize_event(const c10::Event* event) {
  return guarded([&] { event->synchronize(); });
}

const char* ferrotron_gpu_elapsed(const c10::Event* from, const c10::Event* to, double* milliseconds) {
  return guarded([&] { *milliseconds = from->elapsedTime(*to); });
}

// A copy on the GPU. It goes through page-locked memory, so it is only queued.
const char* ferrotron_gpu_upload(const at::Tensor* tensor, int ordinal, at::Tensor** result) {
  return guarded([&] {
    auto pinned = tensor->pin_memory();
    *result = new at::Tensor(pinned.to(pinned.options().device(device(ordinal)), /*non_blocking=*/true));
  });
}

void ferrotron_gpu_drop_event(c10::Event* event) { delete event; }
}
