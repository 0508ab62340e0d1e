"""Fork-join latency of oneTBB and OpenMP, alone and beside PyTorch's thread pool.

    fork_join.py LIBRARY OUT

LIBRARY is libmseloss_fork_join.so. OUT receives medians in microseconds.
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
N = 1 << 18  # elements per job: reads two arrays of 1 MiB and writes one


def microseconds(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e6, 2)


def timings(library: str, pool: str, beside: bool) -> dict[str, float]:
    if beside:
        import torch  # before the library, as in a program that already uses PyTorch
    run = getattr(ctypes.CDLL(library), f"run_{pool}")
    run.restype = ctypes.c_double
    run.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64, ctypes.c_int]
    memory = [(ctypes.c_float * N)() for _ in range(3)]
    pointers = [ctypes.addressof(m) for m in memory]

    def job(n: int, threads: int, count: int, before=lambda: None) -> float:
        for _ in range(20):
            run(*pointers, n, threads)
        times = []
        for _ in range(count):
            before()
            times.append(run(*pointers, n, threads))
        return microseconds(times)

    if not beside:
        return {
            "empty job, back to back": job(0, THREADS, 2000),
            "empty job, after 20 ms idle": job(0, THREADS, 100, lambda: time.sleep(0.02)),
            "1 MiB job, back to back": job(N, THREADS, 2000),
            "1 MiB job, one thread": job(N, 1, 2000),
        }
    torch.set_num_threads(THREADS)
    a, b, c = torch.ones(N), torch.ones(N), torch.empty(N)

    def torch_add() -> float:
        start = time.perf_counter()
        torch.add(a, b, out=c)
        return time.perf_counter() - start

    def torch_add_after_job() -> float:
        run(*pointers, N, THREADS)
        return torch_add()

    for _ in range(50):
        torch_add()
    return {
        "1 MiB job, right after PyTorch": job(N, THREADS, 500, torch_add),
        "PyTorch's 1 MiB add, right after a job": microseconds(
            [torch_add_after_job() for _ in range(500)]
        ),
    }


def main() -> None:
    if len(sys.argv) == 4:  # the child process for one pool
        print(json.dumps(timings(sys.argv[1], sys.argv[2], sys.argv[3] == "beside")))
        return
    library, out = sys.argv[1:]
    environment = {
        k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"
    }  # libgomp's default
    result: dict[str, dict[str, float]] = {"tbb": {}, "openmp": {}}
    for pool, times in result.items():
        for where in ("alone", "beside"):
            command = [sys.executable, __file__, library, pool, where]
            run = subprocess.run(command, capture_output=True, text=True, env=environment)
            if run.returncode == 0:
                times |= json.loads(run.stdout)
            else:
                print(run.stderr, file=sys.stderr)
    text = json.dumps(result, indent=1)
    pathlib.Path(out).write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
