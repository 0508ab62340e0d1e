"""`mseloss bench`: checks the results, then times every case and its peer in the same rounds."""

from __future__ import annotations

import statistics
import time

import numpy as np

import mseloss
from mseloss._dtypes import numpy_dtype
from mseloss.cli import files, machine


def run(size, dtype, repeat, with_torch):
    kind = numpy_dtype(dtype)
    random = np.random.default_rng(0)
    x = random.standard_normal(size, np.float32).astype(kind)
    y = random.standard_normal(size, np.float32).astype(kind)
    g, out, scratch = kind.type(1), np.empty_like(x), np.empty_like(x)
    factor = kind.type(2 / size)
    item = kind.itemsize

    def numpy_out():
        np.subtract(x, y, out=scratch)
        np.multiply(scratch, factor, out=scratch)
        np.multiply(scratch, g, out=scratch)

    cases = [
        ("grad, out=", "mseloss", 3 * item, lambda: mseloss.grad(g, x, y, out=out)),
        ("grad, out=", "NumPy", 3 * item, numpy_out),
        ("grad, new result", "mseloss", 3 * item, lambda: mseloss.grad(g, x, y)),
        ("grad, new result", "NumPy", 3 * item, lambda: (x - y) * factor * g),
        ("loss", "mseloss", 2 * item, lambda: mseloss.loss(x, y)),
        ("loss", "NumPy", 2 * item, lambda: np.mean(np.square(x - y))),
        ("loss and gradient", "mseloss", 3 * item, lambda: mseloss.loss_and_grad(x, y)),
        ("loss and gradient", "NumPy", 3 * item, lambda: _numpy_both(x, y, factor, g)),
    ]
    if with_torch:
        cases += _torch_cases(x, y, item)
    _check(x, y, g, out)
    times = [[] for _ in cases]
    for round_ in range(repeat + 1):
        for case, measured in zip(cases, times, strict=True):
            start = time.perf_counter()
            case[3]()
            if round_:  # the first round warms up
                measured.append(time.perf_counter() - start)
    rows = []
    for (name, who, moved, _), measured in zip(cases, times, strict=True):
        low, median, high = statistics.quantiles(measured, n=4)
        rows.append(
            {
                "case": name,
                "who": who,
                "median_ms": 1e3 * median,
                "quartiles_ms": [1e3 * low, 1e3 * high],
                "gb_per_s": moved * size / median / 1e9,
            }
        )
    own = {row["case"]: row["median_ms"] for row in rows if row["who"] == "mseloss"}
    for row in rows:
        row["time_relative_to_mseloss"] = row["median_ms"] / own[row["case"]]
    return {
        "size": size,
        "dtype": dtype,
        "rounds": repeat,
        "processor": machine.processor(),
        "target": mseloss.info()["target"],
        "threads": mseloss.info()["threads"],
        "cases": rows,
    }


def title(result):
    return (
        f"{result['size']:,} {result['dtype']} elements, {result['processor']}, {result['target']}, "
        f"{result['threads']} threads, {result['rounds']} rounds"
    )


def row(case):
    low, high = case["quartiles_ms"]
    factor = case["time_relative_to_mseloss"]
    return (
        f"{case['case']}: {case['who']}",
        f"{case['median_ms']:.3f}",
        f"{low:.3f} - {high:.3f}",
        f"{case['gb_per_s']:.1f}",
        "" if case["who"] == "mseloss" else f"{factor:.1f}x",
    )


def _check(x, y, g, out):
    """Raises FileError unless all results have the reference's bits: a wrong result is not timed."""
    expected = mseloss.reference.grad(g, x, y)
    for actual in (mseloss.grad(g, x, y, out=out), mseloss.grad(g, x, y)):
        report = mseloss.compare(actual, expected, tolerance=0)
        if not report.ok:
            raise files.FileError(f"the gradient is wrong, nothing was timed: {report.summary()}")
    value, gradient = mseloss.loss_and_grad(x, y, grad_output=g)
    right = mseloss.reference.loss(x, y)
    if not (value == right == mseloss.loss(x, y)) or (gradient != expected).any():
        raise files.FileError(f"the loss is wrong, nothing was timed: {value}, expected {right}")


def _numpy_both(x, y, factor, g):
    difference = x - y
    return np.mean(np.square(difference)), difference * factor * g


def _torch_cases(x, y, item):
    import torch

    if x.dtype.name == "bfloat16":
        a, b = (torch.from_numpy(v.view(np.int16)).view(torch.bfloat16) for v in (x, y))
    else:
        a, b = torch.from_numpy(x), torch.from_numpy(y)
    one, out = torch.ones((), dtype=a.dtype), torch.empty_like(a)
    backward = torch.ops.aten.mse_loss_backward
    return [
        (
            "grad, out=",
            "PyTorch",
            3 * item,
            lambda: backward.grad_input(one, a, b, 1, grad_input=out),
        ),
        ("grad, new result", "PyTorch", 3 * item, lambda: backward(one, a, b, 1)),
        ("loss", "PyTorch", 2 * item, lambda: torch.nn.functional.mse_loss(a, b)),
    ]
