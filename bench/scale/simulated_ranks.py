"""Merges the digits of many simulated ranks in random trees; the loss must be that of the whole data.

Each rank has data of its own, some have none. Every tree adds arrays of digits in pairs, in random order and
shape. Two arrays that together count more than 32767 are encoded anew first, as ranks in two levels would do.

    python bench/scale/simulated_ranks.py [--ranks 100000] [--trees 10] [--elements 300]
"""

from __future__ import annotations

import argparse
import time

import mseloss
import numpy as np
from mseloss import reference

LIMIT = 32767  # arrays of digits that int32 can add


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--ranks", type=int, default=100_000)
    arguments.add_argument("--trees", type=int, default=10)
    arguments.add_argument("--elements", type=int, default=300, help="of a rank, on average")
    arguments.add_argument("--dtype", default="float32")
    options = arguments.parse_args()
    rng = np.random.default_rng(2026)
    ends = np.cumsum(rng.integers(0, 2 * options.elements + 1, options.ranks))
    x, y = (spread(rng, ends[-1]).astype(options.dtype) for _ in "xy")
    whole = mseloss.loss(x, y), mseloss.loss(x, y, "sum")
    total = reference.ExactSum()
    for part in np.array_split(np.arange(len(x)), 64):
        total.add(x[part], y[part])
    assert whole == (total.finish("mean", x.dtype), total.finish("sum", x.dtype))
    print(f"{options.ranks:,} ranks, {ends[-1]:,} elements, mean {whole[0]!s}, sum {whole[1]!s}")
    for exact in (False, True):
        start = time.perf_counter()
        digits = [encode(x[a:b], y[a:b], exact) for a, b in zip([0, *ends], ends, strict=False)]
        encoded = time.perf_counter() - start
        times, sums = [], set()
        for _ in range(options.trees):
            start = time.perf_counter()
            root, encodings = merge(digits, rng)
            times.append(time.perf_counter() - start)
            result = mseloss.PartialSum.from_digits(root)
            assert result.count == len(x)
            values = result.finish("mean", x.dtype), result.finish("sum", x.dtype)
            assert values == whole, (values, whole)
            sums.add(values)
        print(
            f"{'exact' if exact else 'fast'} sums: {digits[0].nbytes} bytes a rank, "
            f"encoded in {encoded:.1f} s; "
            f"{options.trees} random trees, {min(times):.1f} to {max(times):.1f} s, "
            f"{encodings} arrays encoded anew in the last, {len(sums)} different results"
        )


def spread(rng, count):
    """Normal numbers times powers of two, so that the order of a floating-point sum matters."""
    return rng.standard_normal(count) * np.exp2(rng.integers(-10, 11, count))


def encode(x, y, exact):
    part = mseloss.PartialSum()
    part.add(x, y, exact=exact)
    return part.digits(x.dtype)


def merge(digits, rng):
    """The sum of all arrays, added in pairs at random, and how many were encoded anew."""
    nodes = [digits[i] for i in rng.permutation(len(digits))]
    encodings = 0
    while len(nodes) > 1:
        # Merge a random number of disjoint pairs. The rest waits for a later level: trees of every shape.
        pairs = int(rng.integers(1, len(nodes) // 2 + 1))
        merged = []
        for left, right in zip(nodes[:pairs], nodes[pairs : 2 * pairs], strict=True):
            if int(left[0]) + int(right[0]) > LIMIT:
                left, right = (
                    mseloss.PartialSum.from_digits(a).digits(DTYPES[len(a)]) for a in (left, right)
                )
                encodings += 2
            merged.append(left + right)
        nodes = nodes[2 * pairs :] + merged
    return nodes[0], encodings


DTYPES = {len(mseloss.PartialSum().digits(d)): d for d in ("float32", "float64")}

if __name__ == "__main__":
    main()
