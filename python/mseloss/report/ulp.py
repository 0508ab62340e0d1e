"""Errors in units in the last place (ULP): distances between numbers, and the histogram's buckets."""

from __future__ import annotations

import numpy as np


def ulp_distance(a, b):
    """Steps between neighbouring numbers from `a` to `b` (uint64), and where they cannot be counted.

    Both have one dtype. NaN equals NaN, -0 equals 0. The second array is true where not both are finite and
    they are not equal; the distance is 2^64 - 1 there.
    """
    bits = {2: np.int16, 4: np.int32, 8: np.int64}[a.dtype.itemsize]
    lowest = np.iinfo(bits).min

    def place(array):
        raw = array.view(bits)
        return np.where(raw < 0, lowest - raw, raw).astype(np.int64)

    with np.errstate(over="ignore"):
        i, j = place(a), place(b)
        distance = np.where(
            i >= j, i.view(np.uint64) - j.view(np.uint64), j.view(np.uint64) - i.view(np.uint64)
        )
    if a.dtype.name == "bfloat16":
        a, b = a.astype(np.float32), b.astype(np.float32)
    distance[np.isnan(a) & np.isnan(b)] = 0
    mixed = (distance != 0) & ~(np.isfinite(a) & np.isfinite(b))
    distance[mixed] = np.iinfo(np.uint64).max
    return distance, mixed


def bucket_of(values):
    # frexp is exact below 2^53; above, rounding up to the next power of two is undone.
    exponent = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    too_big = (exponent > 0) & (
        values < (np.uint64(1) << np.clip(exponent - 1, 0, 63).astype(np.uint64))
    )
    return np.minimum(exponent - too_big, 64)


def bucket_labels():
    """What the buckets of `Report.histogram` hold, in ULP."""
    labels = ["0", "1"] + [f"{1 << i}-{(2 << i) - 1}" for i in range(1, 64)]
    return [*labels, "not finite"]
