"""Interleaved timing, as in measure/timing.cpp: every repetition calls each contender."""

import datetime
import os
import statistics
import time
from collections.abc import Callable

# All in seconds.
MIN_SAMPLE = 300e-6
SETTLE = 25e-3  # longer than idle OpenMP threads spin by default
WARM_UP = 2e-3  # untimed calls before a sample, which wake the contender's threads
LONG_CALL = 50e-3  # from here on no warm-up


def _sample(call: Callable[[], object], calls: int, each: float) -> float:
    if each < LONG_CALL:
        end = time.perf_counter() + WARM_UP
        call()  # waking the threads can take longer than WARM_UP, hence at least two calls
        call()
        while time.perf_counter() < end:
            call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    elapsed = time.perf_counter() - start
    time.sleep(SETTLE)
    return elapsed / calls


def measure(contenders: dict[str, Callable[[], object]], seconds: float) -> dict[str, dict]:
    """Median and quartiles of each contender in seconds per call; takes about `seconds` in total."""
    calls: dict[str, int] = {}
    rough: dict[str, float] = {}  # seconds per call
    repetition = 0.0
    for name, call in contenders.items():
        call()
        rough[name] = _sample(call, 1, 0.0)
        if rough[name] < MIN_SAMPLE:
            rough[name] = min(rough[name], _sample(call, 16, 0.0))
        calls[name] = max(1, int(MIN_SAMPLE / rough[name]))
        repetition += rough[name] * (calls[name] + 2) + WARM_UP + SETTLE
    samples = min(101, max(5, int(seconds / repetition)))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(samples):
        for name, call in contenders.items():
            times[name].append(_sample(call, calls[name], rough[name]))
    result = {}
    for name, values in times.items():
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        numbers = {"median": median, "q1": q1, "q3": q3, "min": min(values)}
        result[name] = {k: float(f"{v:.6g}") for k, v in numbers.items()}
        result[name] |= {"samples": samples, "calls": calls[name]}
    return result


def stamp() -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{now}, load {os.getloadavg()[0]:.2f}"
