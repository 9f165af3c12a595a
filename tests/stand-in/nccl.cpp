// NCCL's functions, between processes of one host, through shared memory.
//
// A communicator is a file of one slot for each rank. An operation goes through it in pieces: every rank
// puts its piece into its slot, waits for the others, takes what it needs from theirs, and waits again.
// Ranks that meet in different operations have a bug, for which NCCL would hang or give nonsense: here
// the process ends with a sentence.

#include "stand_in.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>

namespace stand_in {
namespace {

constexpr int MAX_RANKS = 64;
constexpr size_t PIECE = 1 << 20;  // bytes

enum Result { SUCCESS = 0, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE_ERROR = 6, IN_PROGRESS = 7 };

struct Slot {
  char operation[96];
  size_t card;  // of which host
  alignas(64) char data[PIECE];
};

struct Shared {
  std::atomic<int> joined, arrived;
  std::atomic<unsigned> turn;
  Slot slots[MAX_RANKS];
};

struct Comm {
  Shared* shared;
  int rank, size;
  std::atomic<bool> aborted{false};

  // Until all ranks are here; false if the communicator is aborted meanwhile.
  bool meet() {
    unsigned turn = shared->turn;
    if (++shared->arrived == size) {
      shared->arrived = 0;
      shared->turn++;
      return true;
    }
    while (shared->turn == turn) {
      if (aborted) return false;
      std::this_thread::yield();
    }
    return true;
  }
};

at::ScalarType dtype(int code) {
  using at::ScalarType;
  constexpr ScalarType kinds[] = {ScalarType::Char, ScalarType::Byte, ScalarType::Int,  ScalarType::UInt32,
                                  ScalarType::Long, ScalarType::UInt64, ScalarType::Half, ScalarType::Float,
                                  ScalarType::Double, ScalarType::BFloat16};
  return kinds[code];
}

at::Tensor numbers(void* data, size_t count, at::ScalarType kind) {
  return at::from_blob(data, {static_cast<int64_t>(count)}, at::TensorOptions().dtype(kind));
}

// One operation: `put` says which of this rank's bytes the others see, from where to where, and `take`
// what it does with theirs.
struct Operation {
  std::string name;
  const char* from;  // null: this rank shows nothing
  size_t bytes;      // to go through; the same on all ranks
  // With all slots filled with bytes [start, start + n).
  std::function<void(Comm&, size_t start, size_t n)> take;
};

void run(Comm& comm, const Operation& operation) {
  for (size_t start = 0; start < operation.bytes; start += PIECE) {
    size_t n = std::min(PIECE, operation.bytes - start);
    Slot& mine = comm.shared->slots[comm.rank];
    std::snprintf(mine.operation, sizeof mine.operation, "%s", operation.name.c_str());
    if (operation.from != nullptr) std::memcpy(mine.data, operation.from + start, n);
    if (!comm.meet()) return;
    for (int rank = 0; rank < comm.size; rank++) {
      const char* theirs = comm.shared->slots[rank].operation;
      if (operation.name != theirs) {
        std::fprintf(stderr, "stand-in: rank %d of a communicator is in %s, and rank %d in %s\n", comm.rank,
                     operation.name.c_str(), rank, theirs);
        std::abort();
      }
    }
    operation.take(comm, start, n);
    if (!comm.meet()) return;
  }
}

int start(Comm* comm, void* stream, Operation operation) {
  if (comm->aborted) return REMOTE_ERROR;
  queue(stream, [comm, operation] { run(*comm, operation); });
  return SUCCESS;
}

std::string described(const char* what, size_t count, int kind, int extra) {
  return std::string(what) + " of " + std::to_string(count) + " " + c10::toString(dtype(kind)) + " (" +
         std::to_string(extra) + ")";
}

// Adds to `to` (or takes the larger, or the smaller) what all ranks show.
void reduce(Comm& comm, char* to, size_t n, int kind, int op) {
  auto type = dtype(kind);
  size_t count = n / c10::elementSize(type);
  at::Tensor sum = numbers(comm.shared->slots[0].data, count, type).clone();
  for (int rank = 1; rank < comm.size; rank++) {
    at::Tensor theirs = numbers(comm.shared->slots[rank].data, count, type);
    if (op == 0) sum.add_(theirs);
    if (op == 2) at::maximum_out(sum, sum, theirs);
    if (op == 3) at::minimum_out(sum, sum, theirs);
  }
  std::memcpy(to, sum.data_ptr(), n);
}

}  // namespace

extern "C" {

struct UniqueId {
  char internal[128];
};

int ncclGetUniqueId(UniqueId* id) {
  std::random_device random;
  std::snprintf(id->internal, sizeof id->internal, "/ferrotron-%08x%08x%08x", random(), random(), random());
  return SUCCESS;
}

int ncclCommInitRank(Comm** comm, int size, UniqueId id, int rank) {
  if (size > MAX_RANKS || rank < 0 || rank >= size) return INVALID_ARGUMENT;
  // A launcher that knows nothing of GPUs does not set them, and then the program has to.
  for (const char* name : {"NCCL_RUNTIME_CONNECT", "NCCL_COMM_BLOCKING", "CUDA_DEVICE_MAX_CONNECTIONS"}) {
    if (std::getenv(name) == nullptr) return INVALID_USAGE;
  }
  if (std::string(std::getenv("NCCL_COMM_BLOCKING")) == "0") return IN_PROGRESS;
  int file = shm_open(id.internal, O_RDWR | O_CREAT, 0600);
  size_t bytes = offsetof(Shared, slots) + sizeof(Slot) * size;
  if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) return INVALID_ARGUMENT;
  auto* shared = static_cast<Shared*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  close(file);
  if (shared == MAP_FAILED) return INVALID_ARGUMENT;
  // NCCL refuses two ranks on one card, and knows hosts by this variable or by their names.
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  const char* host = std::getenv("NCCL_HOSTID");
  auto card = at::empty({0}, at::TensorOptions().device(CUDA)).get_device();
  shared->slots[rank].card = std::hash<std::string>()(std::string(host ? host : name) + ":" + std::to_string(card));
  *comm = new Comm{shared, rank, size};
  shared->joined++;
  while (shared->joined < size) std::this_thread::yield();
  shm_unlink(id.internal);
  for (int other = 0; other < size; other++) {
    if (other != rank && shared->slots[other].card == shared->slots[rank].card) return INVALID_USAGE;
  }
  return SUCCESS;
}

// Abort, the one call that a program puts into a group, does not wait for anything here.
int ncclGroupStart() { return SUCCESS; }
int ncclGroupEnd() { return SUCCESS; }

// As in NCCL, what is under way ends without a result. The memory stays: its thread may still look at it.
int ncclCommAbort(Comm* comm) {
  comm->aborted = true;
  return SUCCESS;
}

int ncclCommGetAsyncError(Comm* comm, int* error) {
  *error = comm->aborted ? REMOTE_ERROR : SUCCESS;
  return SUCCESS;
}

const char* ncclGetErrorString(int code) { return code == INVALID_USAGE ? "invalid usage" : "an error of the stand-in"; }

const char* ncclGetLastError(Comm*) { return "Duplicate GPU detected"; }

int ncclAllReduce(const void* from, void* to, size_t count, int kind, int op, Comm* comm, void* stream) {
  size_t bytes = count * c10::elementSize(dtype(kind));
  auto take = [=](Comm& comm, size_t start, size_t n) { reduce(comm, static_cast<char*>(to) + start, n, kind, op); };
  return start(comm, stream, {described("all_reduce", count, kind, op), static_cast<const char*>(from), bytes, take});
}

// `count` of each rank: all show everything, and each reduces its part.
int ncclReduceScatter(const void* from, void* to, size_t count, int kind, int op, Comm* comm, void* stream) {
  size_t part = count * c10::elementSize(dtype(kind));
  auto whole = std::make_shared<std::vector<char>>(part * comm->size);
  auto take = [=](Comm& comm, size_t start, size_t n) {
    reduce(comm, whole->data() + start, n, kind, op);
    if (start + n == whole->size()) std::memcpy(to, whole->data() + part * comm.rank, part);
  };
  auto name = described("reduce_scatter", count, kind, op);
  return start(comm, stream, {name, static_cast<const char*>(from), whole->size(), take});
}

int ncclAllGather(const void* from, void* to, size_t count, int kind, Comm* comm, void* stream) {
  size_t part = count * c10::elementSize(dtype(kind));
  auto take = [=](Comm& comm, size_t start, size_t n) {
    for (int rank = 0; rank < comm.size; rank++) {
      std::memcpy(static_cast<char*>(to) + part * rank + start, comm.shared->slots[rank].data, n);
    }
  };
  return start(comm, stream, {described("all_gather", count, kind, 0), static_cast<const char*>(from), part, take});
}

int ncclBroadcast(const void* from, void* to, size_t count, int kind, int root, Comm* comm, void* stream) {
  size_t bytes = count * c10::elementSize(dtype(kind));
  auto take = [=](Comm& comm, size_t start, size_t n) {
    std::memcpy(static_cast<char*>(to) + start, comm.shared->slots[root].data, n);
  };
  const char* shown = comm->rank == root ? static_cast<const char*>(from) : nullptr;
  return start(comm, stream, {described("broadcast", count, kind, root), shown, bytes, take});
}

// Messages: between the two of a communicator of two.
int ncclSend(const void* from, size_t count, int kind, int to, Comm* comm, void* stream) {
  if (comm->size != 2 || to == comm->rank) return INVALID_ARGUMENT;
  size_t bytes = count * c10::elementSize(dtype(kind));
  auto name = described("a message", count, kind, to);
  return start(comm, stream, {name, static_cast<const char*>(from), bytes, [](Comm&, size_t, size_t) {}});
}

int ncclRecv(void* to, size_t count, int kind, int from, Comm* comm, void* stream) {
  if (comm->size != 2 || from == comm->rank) return INVALID_ARGUMENT;
  size_t bytes = count * c10::elementSize(dtype(kind));
  auto take = [=](Comm& comm, size_t start, size_t n) {
    std::memcpy(static_cast<char*>(to) + start, comm.shared->slots[from].data, n);
  };
  return start(comm, stream, {described("a message", count, kind, comm->rank), nullptr, bytes, take});
}
}

}  // namespace stand_in
