// NCCL: a call is a line. Those of another world are not waited for.

#include <cstddef>
#include <cstring>

#include "recorder.h"

using recorder::say;
using recorder::stream;

namespace {
using Result = int;
constexpr Result SUCCESS = 0, INVALID_USAGE = 5;
struct UniqueId {
  char internal[128];
};

// The number of a communicator.
unsigned number(const void* comm) { return static_cast<unsigned>(reinterpret_cast<size_t>(comm)); }
}  // namespace

extern "C" {

Result ncclGetVersion(int* version) { return *version = 22'809, SUCCESS; }
Result ncclGetUniqueId(UniqueId* id) { return std::memset(id, 0, sizeof *id), SUCCESS; }
Result ncclCommInitRank(void** comm, int size, UniqueId, int rank) {
  static size_t comms;
  *comm = reinterpret_cast<void*>(++comms);
  return say("communicator %u of %d, rank %d", number(*comm), size, rank), SUCCESS;
}
Result ncclCommAbort(void*) { return SUCCESS; }
Result ncclCommGetAsyncError(void*, Result* error) { return *error = SUCCESS, SUCCESS; }
const char* ncclGetErrorString(Result) { return "an error of the recorder's"; }
const char* ncclGetLastError(void*) { return ""; }
Result ncclGroupStart() { return SUCCESS; }
Result ncclGroupEnd() { return SUCCESS; }

Result ncclAllReduce(const void*, void*, size_t count, int, int, void* comm, void* on) {
  return say("nccl stream %u comm %u all_reduce %zu", stream(on), number(comm), count), SUCCESS;
}
Result ncclReduceScatter(const void*, void*, size_t count, int, int, void* comm, void* on) {
  return say("nccl stream %u comm %u reduce_scatter %zu", stream(on), number(comm), count), SUCCESS;
}
Result ncclAllGather(const void*, void*, size_t count, int, void* comm, void* on) {
  return say("nccl stream %u comm %u all_gather %zu", stream(on), number(comm), count), SUCCESS;
}
Result ncclBroadcast(const void*, void*, size_t count, int, int, void* comm, void* on) {
  return say("nccl stream %u comm %u broadcast %zu", stream(on), number(comm), count), SUCCESS;
}
Result ncclSend(const void*, size_t count, int, int, void* comm, void* on) {
  return say("nccl stream %u comm %u send %zu", stream(on), number(comm), count), SUCCESS;
}
Result ncclRecv(void*, size_t count, int, int, void* comm, void* on) {
  return say("nccl stream %u comm %u recv %zu", stream(on), number(comm), count), SUCCESS;
}

// libtorch is linked against these as well, and calls none of them here.
#define UNUSED(NAME) \
  Result NAME() { return INVALID_USAGE; }
UNUSED(ncclAlltoAll)
UNUSED(ncclBcast)
UNUSED(ncclCommCount)
UNUSED(ncclCommDeregister)
UNUSED(ncclCommDestroy)
UNUSED(ncclCommFinalize)
UNUSED(ncclCommInitAll)
UNUSED(ncclCommInitRankConfig)
UNUSED(ncclCommInitRankScalable)
UNUSED(ncclCommRegister)
UNUSED(ncclCommShrink)
UNUSED(ncclCommSplit)
UNUSED(ncclCommUserRank)
UNUSED(ncclCommWindowDeregister)
UNUSED(ncclCommWindowRegister)
UNUSED(ncclDevCommCreate)
UNUSED(ncclDevCommDestroy)
UNUSED(ncclGroupSimulateEnd)
UNUSED(ncclMemAlloc)
UNUSED(ncclMemFree)
UNUSED(ncclRedOpCreatePreMulSum)
UNUSED(ncclRedOpDestroy)
UNUSED(ncclReduce)

}  // extern "C"
