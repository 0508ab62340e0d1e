"""Times the mean loss of two chunked files: mseloss.dask, and the usual expression on the same Dask arrays.

Both run in one process on Dask's threads, in turn, after two rounds that do not count.

    python bench/scale/chunked_mean.py FOLDER [--gib 2] [--chunk-mib 64] [--format npy] [--rounds 9]

The formats are npy, zarr and raw.zarr, a Zarr array without compression.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from pathlib import Path

import dask
import dask.array as da
import mseloss.dask
import numpy as np
from dask.system import CPU_COUNT

WARM_UP = 2


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--gib", type=float, default=2, help="of both operands together")
    arguments.add_argument("--chunk-mib", type=int, default=64)
    arguments.add_argument("--format", choices=("npy", "zarr", "raw.zarr"), default="npy")
    arguments.add_argument("--rounds", type=int, default=9)
    options = arguments.parse_args()
    chunk = options.chunk_mib << 20
    count = int(options.gib * (1 << 30)) // (2 * chunk)
    a, b = (operand(options, seed, count, chunk // 4) for seed in range(2))
    peers = {
        "mseloss.dask.loss(a, b)": mseloss.dask.loss(a, b),
        "((a - b) ** 2).mean()": ((a - b) ** 2).mean(),
    }
    runs = {name: [] for name in peers}
    with dask.config.set(scheduler="threads"):
        for _ in range(WARM_UP + options.rounds):
            for name, lazy in peers.items():
                runs[name].append(measure(lazy))
    print(
        f"{options.gib:g} GiB float32 in chunks of {options.chunk_mib} MiB, .{options.format}, ",
        end="",
    )
    print(f"{CPU_COUNT} threads, Dask {dask.__version__}, {options.rounds} rounds")
    medians = []
    for name in peers:
        times = sorted(1e3 * seconds for seconds, _, _ in runs[name][WARM_UP:])
        low, high = times[len(times) // 4], times[-1 - len(times) // 4]
        medians.append(statistics.median(times))
        peak = max(peak for _, peak, _ in runs[name][WARM_UP:]) / chunk / CPU_COUNT
        values = {value for _, _, value in runs[name]}
        print(f"{name:24} {medians[-1]:6.0f} ms (quartiles {low:.0f} to {high:.0f}), ", end="")
        print(f"peak {peak:.1f} chunks a thread, {len(values)} different results")
    print(f"{medians[1] / medians[0]:.1f} times as fast")


def operand(options, seed, count, elements):
    """A Dask array of `count` chunks in a file, which is written unless it is there."""
    path = options.folder / f"{seed}-{count}x{elements}.{options.format}"
    shape = (count * elements,)
    if not path.exists():
        options.folder.mkdir(parents=True, exist_ok=True)
        if options.format == "npy":
            array = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        else:
            import zarr

            codecs = {"compressors": None} if options.format == "raw.zarr" else {}
            array = zarr.create_array(path, shape=shape, chunks=(elements,), dtype="f4", **codecs)
        rng = np.random.default_rng(seed)
        for i in range(count):
            array[i * elements : (i + 1) * elements] = rng.standard_normal(elements, np.float32)
    if options.format != "npy":
        return da.from_zarr(path)
    return da.from_array(np.load(path, mmap_mode="r"), chunks=elements)


def measure(lazy):
    """Seconds, the peak of anonymous memory in bytes beyond that before, and the value."""
    before, peak, done = anonymous(), [0], threading.Event()

    def watch():
        while not done.wait(0.001):
            peak[0] = max(peak[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    value = float(lazy.compute())
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    return seconds, peak[0], value


def anonymous():
    """Bytes of this process that are not pages of files."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
