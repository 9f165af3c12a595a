"""All-reduce of float32 with torch.distributed on Gloo, one process per rank on this host.

usage: gloo.py RANKS BYTES...     prints "BYTES MICROSECONDS" for each size, the best of many batches
"""

import os
import sys
import tempfile
import time

import torch
import torch.distributed as dist


def batches(size):
    """Batches, and all-reduces in each: the same as in collectives.rs."""
    return 20, max(3, min(200, (8 << 20) // size))


def run(rank, world, sizes, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    for size in sizes:
        tensor = torch.zeros(size // 4)
        best = float("inf")
        count, repeats = batches(size)
        for _ in range(count):
            dist.barrier()
            start = time.perf_counter()
            for _ in range(repeats):
                dist.all_reduce(tensor)
            best = min(best, (time.perf_counter() - start) / repeats)
        if rank == 0:
            print(size, best * 1e6, flush=True)
    dist.destroy_process_group()


def main():
    world, sizes = int(sys.argv[1]), [int(size) for size in sys.argv[2:]]
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "store")
        children = []
        for rank in range(1, world):
            child = os.fork()
            if child == 0:
                run(rank, world, sizes, store)
                os._exit(0)
            children.append(child)
        run(0, world, sizes, store)
        for child in children:
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
