"""A user's program over NumPy arrays, for mypy --strict and pyright; test_types.py also runs it."""

from typing import Any, assert_type

import mseloss
import numpy as np
from mseloss import memory, metrics, reference
from numpy.typing import NDArray

x: NDArray[np.float32] = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
y = np.zeros((3, 4), np.float32)
out = np.empty_like(x)

assert_type(mseloss.grad(1.0, x, y), NDArray[np.float32])
assert_type(mseloss.grad(x, x, y, "none", out=out), NDArray[np.float32])
assert_type(mseloss.grad(1.0, [1.0, 2.0], [0.0, 0.0]), NDArray[Any])
assert_type(mseloss.loss(x, y), np.float32)
assert_type(mseloss.loss(x, y, "none"), NDArray[np.float32])
assert_type(mseloss.loss(x, y, "sum", weight=x > 0), np.float32)
assert_type(mseloss.loss(x, y, axis=0, keepdims=True), Any)
assert_type(mseloss.loss(x, y, dtype="float64"), Any)

loss, gradient = mseloss.loss_and_grad(x, y, weight=x, grad_output=0.5)
assert_type(loss, np.float32)
assert_type(gradient, NDArray[np.float32])
assert_type(mseloss.empty((3, 4), "float32", like=x), NDArray[np.float32])

total = mseloss.PartialSum()
total.add(x[:1], y[:1])
rest = mseloss.PartialSum()
rest.add(x[1:], y[1:], exact=True)
total.merge(rest)
assert_type(total.count, int)
assert_type(total.digits(), NDArray[np.int32])

assert_type(mseloss.info()["threads"], int)
assert_type(mseloss.explain(1.0, x, y), str)
assert_type(memory.usage()["idle"], int)
assert_type(reference.grad(1.0, x, y), NDArray[Any])
assert_type(metrics.mean_squared_error([1.0, 2.0], [1.0, 3.0]), float)
assert_type(metrics.root_mean_squared_error(x, y, multioutput="raw_values"), NDArray[Any])

report = mseloss.compare(mseloss.grad(1.0, x, y), reference.grad(1.0, x, y), tolerance=0)
assert_type(report, mseloss.Report)
assert_type(report.ok, bool)
assert_type(report.summary(), str)
