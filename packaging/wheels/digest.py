"""Prints a digest of random calls. It must be the same for every build, processor and thread count.

digest.py [CASES]

The operands are random bits: the random floats of NumPy use functions of the C library whose last bits
depend on the platform.
"""

from __future__ import annotations

import hashlib
import sys

import ml_dtypes
import mseloss
import numpy as np

DTYPES = {
    np.dtype(np.float32): (np.uint32, 23, 8, 127),
    np.dtype(np.float64): (np.uint64, 52, 11, 1023),
    np.dtype(np.float16): (np.uint16, 10, 5, 15),
    np.dtype(ml_dtypes.bfloat16): (np.uint16, 7, 8, 127),
}


def operand(rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Any bits, or numbers of magnitude 2^-6 to 2^2: sums whose rounding depends on every bit."""
    unsigned, mantissa, exponent, bias = DTYPES[dtype]
    bits = rng.integers(0, np.iinfo(unsigned).max, shape, unsigned, endpoint=True)
    if rng.integers(0, 8) > 0:
        field = unsigned(((1 << exponent) - 1) << mantissa)
        near = (bits >> unsigned(mantissa)) % unsigned(8) + unsigned(bias - 6)
        bits = (bits & ~field) | (near << unsigned(mantissa))
    array = bits.view(dtype)
    order = rng.integers(0, 3)
    if order == 1 and array.ndim > 1:
        array = np.ascontiguousarray(array.T).T
    elif order == 2 and array.ndim > 0:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    return array


def bits_of(array: np.ndarray) -> bytes:
    """The bits, with one NaN for all: a NaN's payload is not defined."""
    array = np.array(array)
    array[np.isnan(array)] = np.nan
    return array.tobytes()


def main() -> int:
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    rng = np.random.Generator(np.random.PCG64(20))
    digest = hashlib.sha256()
    for _ in range(cases):
        dtype = list(DTYPES)[rng.integers(0, len(DTYPES))]
        shape = tuple(int(n) for n in rng.integers(1, (40, 12, 5, 3)[: rng.integers(1, 5)]))
        shape = (*shape[:-1], int(rng.integers(1, 700)))
        x, y, g = (operand(rng, dtype, shape) for _ in range(3))
        if rng.integers(0, 4) == 0:
            y = y[..., :1]
        reduction = ("none", "mean", "sum")[rng.integers(0, 3)]
        results = [mseloss.grad(g, x, y, reduction), mseloss.loss(x, y, reduction)]
        upstream = g if reduction == "none" else 1.0
        results += mseloss.loss_and_grad(x, y, reduction, grad_output=upstream)
        results.append(mseloss.loss(x, y, "sum", weight=abs(g)))
        results.append(mseloss.loss(x, y, "mean", axis=0))
        for result in results:
            digest.update(bits_of(result))
    print(
        f"{digest.hexdigest()[:32]}  {cases} cases, {mseloss.info()['target']}, mseloss {mseloss.__version__}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
