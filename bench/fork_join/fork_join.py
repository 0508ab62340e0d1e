"""Fork-join latency of oneTBB and OpenMP, alone and beside PyTorch's pool.

    fork_join.py LIBRARY OUT

LIBRARY is the build's libmseloss_fork_join.so. Written to OUT: medians in microseconds.
"""

import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

THREADS = max(2, len(os.sched_getaffinity(0)))
N = 1 << 18  # elements of the job: two arrays of 1 MiB read, one written


def timings(library: str, pool: str, beside: bool) -> dict[str, float]:
    torch = None
    if beside:
        import torch

        torch.set_num_threads(THREADS)
    lib = ctypes.CDLL(library)
    run = getattr(lib, f"run_{pool}")
    run.restype = ctypes.c_double
    run.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64, ctypes.c_int]
    memory = [(ctypes.c_float * N)() for _ in range(3)]
    pointers = [ctypes.addressof(m) for m in memory]

    def median(before, n: int, threads: int, count: int) -> float:
        for _ in range(20):
            run(*pointers, n, threads)
        times = []
        for _ in range(count):
            before()
            times.append(run(*pointers, n, threads))
        return round(statistics.median(times) * 1e6, 2)

    def nothing():
        pass

    def idle():
        time.sleep(0.02)

    if torch is None:
        return {
            "empty, at once": median(nothing, 0, THREADS, 2000),
            "empty, after 20 ms idle": median(idle, 0, THREADS, 100),
            "1 MiB, at once": median(nothing, N, THREADS, 2000),
            "1 MiB, one thread": median(nothing, N, 1, 2000),
        }
    a, b = torch.ones(N), torch.ones(N)
    c = torch.empty(N)

    def host():
        torch.add(a, b, out=c)

    def host_time() -> float:
        times = []
        for _ in range(500):
            run(*pointers, N, THREADS)
            start = time.perf_counter()
            host()
            times.append(time.perf_counter() - start)
        return round(statistics.median(times) * 1e6, 2)

    for _ in range(50):
        host()
    return {
        "1 MiB, right after PyTorch": median(host, N, THREADS, 500),
        "PyTorch's own 1 MiB, right after it": host_time(),
    }


def main() -> None:
    if len(sys.argv) == 5:  # one pool in a process of its own
        print(json.dumps(timings(sys.argv[1], sys.argv[3], sys.argv[4] == "beside")))
        return
    library, out = sys.argv[1:]
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}  # as users have it
    result = {}
    for pool in ("tbb", "openmp"):
        result[pool] = {}
        for where in ("alone", "beside"):
            command = [sys.executable, __file__, library, out, pool, where]
            run = subprocess.run(command, capture_output=True, text=True, env=environment)
            if run.returncode == 0:
                result[pool] |= json.loads(run.stdout)
            else:
                print(run.stderr, file=sys.stderr)
    pathlib.Path(out).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
