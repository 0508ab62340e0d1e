"""Errors in units in the last place (ULP): distances between numbers, and the histogram's buckets."""

from __future__ import annotations

import numpy as np


def ulp_distance(a, b):
    """The distance between `a` and `b`, arrays of the same dtype, in ULP.

    Returns (distance, not_finite): uint64 counts of representable steps, and booleans that are true where the
    elements differ and at least one is infinite or NaN; the distance is 2^64 - 1 there. NaN equals NaN, and
    -0 equals 0.
    """
    bits = {2: np.int16, 4: np.int32, 8: np.int64}[a.dtype.itemsize]
    lowest = np.iinfo(bits).min

    def position(array):  # consecutive integers for neighbouring numbers
        raw = array.view(bits)
        return np.where(raw < 0, lowest - raw, raw).astype(np.int64)

    with np.errstate(over="ignore"):
        i, j = position(a), position(b)
        distance = np.where(
            i >= j, i.view(np.uint64) - j.view(np.uint64), j.view(np.uint64) - i.view(np.uint64)
        )
    if a.dtype.name == "bfloat16":
        a, b = a.astype(np.float32), b.astype(np.float32)
    distance[np.isnan(a) & np.isnan(b)] = 0
    not_finite = (distance != 0) & ~(np.isfinite(a) & np.isfinite(b))
    distance[not_finite] = np.iinfo(np.uint64).max
    return distance, not_finite


def bucket_of(values):
    """The histogram bucket of each distance (uint64): its bit length."""
    # frexp is exact below 2^53. Above, the conversion to float64 may round up to a power of two.
    exponent = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    rounded_up = (exponent > 0) & (
        values < (np.uint64(1) << np.clip(exponent - 1, 0, 63).astype(np.uint64))
    )
    return np.minimum(exponent - rounded_up, 64)


def bucket_labels():
    """The range of each bucket of `Report.histogram`, in ULP."""
    labels = ["0", "1"] + [f"{1 << i}-{(2 << i) - 1}" for i in range(1, 64)]
    return [*labels, "not finite"]
