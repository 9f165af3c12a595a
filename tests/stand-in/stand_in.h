// A GPU made of host memory and threads, under the names that a program looks for: libtorch_cuda.so,
// libnccl.so.2 and libcuda.so.1 are all this one library. With its folder on LD_LIBRARY_PATH,
// `--device cuda` runs on a machine that has no GPU, to test everything but the GPU.
//
//   device.cpp    devices, streams, events
//   memory.cpp    memory of the device, and page-locked memory of the host
//   kernels.cpp   operations: those of the CPU, on tensors that say they are elsewhere
//   nccl.cpp      collectives and messages between processes, through shared memory
//
// It is stricter than a GPU. What is queued on a side stream starts late, so a result that is used
// without waiting for it is wrong; memory is overwritten as it is freed, so a tensor that was let go
// while something was under way is wrong too; and the host's waits for the device are counted. With
// STAND_IN_ALLOCATES_IDLE set, each allocation waits for all side streams, which a device does now and then.
#pragma once

#include <ATen/ATen.h>

#include <functional>

namespace stand_in {

constexpr int DEVICES = 2;
constexpr auto CUDA = c10::DeviceType::CUDA;

// Queues `job` on the stream behind a cudaStream_t.
void queue(void* stream, std::function<void()> job);

// A device's memory, all of which the host can see.
c10::Allocator* memory();

// Memory of the host's from which a copy is only queued.
c10::Allocator* page_locked();
bool is_page_locked(const void* block);

// Waits until the side streams have done all that was queued, as a device does that is about to free memory
// or to load a kernel.
void wait_until_idle();

// Counts one more time that the host has waited for the device.
void host_waited(const char* why);

}  // namespace stand_in
