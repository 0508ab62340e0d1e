"""Times what a loss over several processes adds: digits of a large piece, and their exchange.

    python bench/scale/exchange.py digits
    mpirun -n 2 python bench/scale/exchange.py mpi
    python -m torch.distributed.run --nproc-per-node 2 bench/scale/exchange.py gloo

Both sides alternate in one run, MPI's exchanges in batches of 20, because a rank that arrives late at an
all-reduce does not wait in it. Each line has the medians in microseconds and the median of the ratios of
neighbours. The exchange is that of mseloss.mpi and mseloss.torch: digits, all-reduce, the sum of all, and its
rounding; the peer all-reduces one float32.
"""

import statistics
import sys
import time

import mseloss
import numpy as np


def compare(name, ours, peer, rounds, batch=1, report=True):
    times = {ours: [], peer: []}
    for i in range(rounds):
        for function in (ours, peer) if i % 2 else (peer, ours):
            start = time.perf_counter()
            for _ in range(batch):
                function()
            times[function].append(1e6 * (time.perf_counter() - start) / batch)
    if report:
        ratio = statistics.median(a / b for a, b in zip(times[ours], times[peer], strict=True))
        a, b = (statistics.median(times[function]) for function in (ours, peer))
        print(f"{name}: {a:.1f} us, peer {b:.1f} us, ratio {a / b:.3f}, of neighbours {ratio:.3f}")


def piece(dtype, count):
    random = np.random.default_rng(1)
    return (random.standard_normal(count).astype(dtype) for _ in range(2))


def time_digits():
    for dtype in ("float32", "float64"):
        x, y = piece(dtype, (64 << 20) // np.dtype(dtype).itemsize)

        def fast_sum(x=x, y=y):
            part = mseloss.PartialSum()
            part.add(x, y)
            return part

        compare(
            f"digits of 64 MiB, {dtype}",
            lambda f=fast_sum, d=dtype: f().digits(d),
            fast_sum,
            200,
        )


def time_exchange(name, all_reduce, all_reduce_float, rank):
    for dtype in ("float32", "float64"):
        part = mseloss.PartialSum()
        part.add(*piece(dtype, 1000))

        def exchange(part=part, dtype=dtype):
            digits = all_reduce(part.digits(dtype))
            return mseloss.PartialSum.from_digits(digits).finish("mean", dtype)

        batch = 20 if name == "MPI" else 1
        compare(
            f"exchange by {name}, {dtype}",
            exchange,
            all_reduce_float,
            2000 // batch,
            batch,
            rank == 0,
        )


def mpi():
    from mpi4py import MPI

    comm, number = MPI.COMM_WORLD, np.ones(1, np.float32)

    def all_reduce(digits):
        comm.Allreduce(MPI.IN_PLACE, digits)
        return digits

    time_exchange("MPI", all_reduce, lambda: comm.Allreduce(MPI.IN_PLACE, number), comm.rank)


def gloo():
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    number = torch.ones(1)

    def all_reduce(digits):
        tensor = torch.from_numpy(digits)
        dist.all_reduce(tensor)
        return tensor.numpy()

    time_exchange("gloo", all_reduce, lambda: dist.all_reduce(number), dist.get_rank())
    dist.destroy_process_group()


{"digits": time_digits, "mpi": mpi, "gloo": gloo}[sys.argv[1]]()
