"""`compare` and the `Report` it returns: how many elements are wrong, by how much, and which are worst."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import IO, Any

import numpy as np

from mseloss._core import asnumpy
from mseloss._dtypes import EXPECTED, NAMES
from mseloss._rounding import convert
from mseloss.report.chunks import chunks
from mseloss.report.error_map import ErrorMap
from mseloss.report.text import percent
from mseloss.report.ulp import bucket_labels, bucket_of, ulp_distance

_CHUNK = 1 << 20  # elements compared at a time
MAX_TOLERANCE = (
    2**64 - 2
)  # ULP; the distance 2^64 - 1 marks elements that are not finite on one side


def compare(
    actual: Any,
    expected: Any,
    *,
    tolerance: int = 1,
    worst: int = 10,
    inputs: Mapping[str, Any] | None = None,
) -> Report:
    """Compares `actual` with `expected` and reports how many elements differ, by how much and where.

    Args:
        actual, expected: arrays of the same shape, of float32, float16, bfloat16 or float64, of any kind that
            `mseloss.grad` accepts. `expected` is first rounded to the dtype of `actual`.
        tolerance: the error allowed per element, in units in the last place (ULP) of `actual`'s dtype. NaN
            equals NaN; an infinity equals only itself.
        worst: the number of worst elements to list.
        inputs: a dict from names to arrays that broadcast to the shape; their values are listed with the
            worst elements.

    Returns a `Report`; it is not ok if the shapes differ. Raises TypeError for other dtypes and ValueError
    for an invalid tolerance, count or shape of `inputs`.

    >>> report = mseloss.compare(result, mseloss.reference.grad(g, x, y))
    >>> assert report.ok, report.summary()
    """
    actual, expected = _floats(actual, "actual"), _floats(expected, "expected")
    report = Report(actual.shape, actual.dtype, tolerance=tolerance, worst=worst)
    if actual.shape != expected.shape:
        report.shape_mismatch = (actual.shape, expected.shape)
        return report
    inputs = _operands(inputs, actual.shape)
    for index in chunks(actual.shape, _CHUNK):
        report.add(
            index,
            actual[index],
            expected[index],
            {name: array[index] for name, array in inputs.items()},
        )
    return report


class Report:
    """The differences between an array and the expected values. `compare` makes it, or `add` chunk by chunk.

    Attributes:
        ok: whether the shapes agree and all elements are within the tolerance.
        count, different, wrong: numbers of elements compared, not equal, and beyond the tolerance.
        max_ulp, max_relative, max_absolute: the largest errors of elements that are finite on both sides.
        not_finite: number of elements that differ and are NaN or infinite on at least one side.
        histogram: element counts by error in ULP; `bucket_labels` gives the range of each bucket.
        worst: the worst elements, a list of dicts (index, actual, expected, ulp, relative, inputs).
        shape_mismatch: (actual, expected) shapes if they differ, else None.
    """

    def __init__(
        self, shape: Sequence[int], dtype: Any, *, tolerance: int = 1, worst: int = 10
    ) -> None:
        tolerance = _whole(tolerance, "tolerance: expected a whole number of ULP", MAX_TOLERANCE)
        worst = _whole(worst, "worst: expected a whole number of elements")
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.tolerance = tolerance
        self.shape_mismatch = None
        self.count = self.different = self.wrong = self.not_finite = 0
        self.max_ulp, self.max_relative, self.max_absolute = 0, 0.0, 0.0
        self.histogram = np.zeros(66, np.int64)
        self.worst = []
        self._keep = worst
        self.error_map = ErrorMap(self.shape)
        self._strides = [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]

    @property
    def ok(self) -> bool:
        return self.shape_mismatch is None and self.wrong == 0

    def add(
        self, index: Any, actual: Any, expected: Any, inputs: Mapping[str, Any] | None = None
    ) -> None:
        """Adds the chunk at `index`, an index as `chunks` yields it."""
        size = actual.size
        if size == 0:
            return
        a = np.ascontiguousarray(actual).reshape(-1)
        e = convert(np.ascontiguousarray(expected).reshape(-1), self.dtype)
        start = sum(
            (i.start or 0 if isinstance(i, slice) else i) * s
            for i, s in zip(index, self._strides, strict=False)
        )
        self.count += size
        if a.tobytes() == e.tobytes():
            self.histogram[0] += size
            return
        ulp, not_finite = ulp_distance(a, e)
        unequal = np.flatnonzero(ulp)
        self.histogram[0] += size - unequal.size
        if unequal.size == 0:
            return
        u, bad = ulp[unequal], not_finite[unequal]
        self.different += unequal.size
        self.not_finite += int(bad.sum())
        bucket = np.where(bad, 65, bucket_of(u))
        self.histogram += np.bincount(bucket, minlength=66)
        with np.errstate(all="ignore"):
            wide_a, wide_e = a[unequal].astype(np.float64), e[unequal].astype(np.float64)
            absolute = np.abs(wide_a - wide_e)
            relative = absolute / np.abs(wide_e)
        if not bad.all():
            self.max_ulp = max(self.max_ulp, int(u[~bad].max()))
            self.max_absolute = max(self.max_absolute, float(absolute[~bad].max()))
            self.max_relative = max(self.max_relative, float(relative[~bad].max()))
        wrong = u > np.uint64(self.tolerance)
        self.wrong += int(wrong.sum())
        self.error_map.add(start + unequal[wrong])
        self._add_worst(start, a, e, unequal, u, bad, relative, inputs or {})

    def _add_worst(self, start, a, e, unequal, u, bad, relative, inputs):
        if self._keep == 0:
            return
        if u.size > self._keep:
            top = np.argpartition(u, u.size - self._keep)[-self._keep :]
            if bad.any():  # ties at the top: the first ones in memory
                top = np.concatenate([top, np.flatnonzero(bad)[: self._keep]])
                top = np.unique(top)
        else:
            top = np.arange(u.size)
        flat_inputs = None
        for i in top:
            at = int(unequal[i])
            if flat_inputs is None:
                flat_inputs = {n: np.ascontiguousarray(x).reshape(-1) for n, x in inputs.items()}
            self.worst.append(
                {
                    "index": tuple(int(k) for k in np.unravel_index(start + at, self.shape)),
                    "actual": float(a[at]),
                    "expected": float(e[at]),
                    "ulp": math.inf if bad[i] else int(u[i]),
                    "relative": float(relative[i]),
                    "inputs": {name: float(x[at]) for name, x in flat_inputs.items()},
                }
            )
        self.worst.sort(key=lambda w: (-w["ulp"], w["index"]))
        del self.worst[self._keep :]

    def pattern(self) -> str:
        """Describes where the wrong elements are ("every 16th row: 3, 19, ..."); "" if there are none."""
        return self.error_map.describe(self.shape) if self.wrong else ""

    def summary(self) -> str:
        """A few lines of text: the verdict, the largest errors, their pattern, and the worst elements."""
        if self.shape_mismatch:
            return "NOT OK: shapes differ: actual {}, expected {}".format(*self.shape_mismatch)
        unit = f"{self.tolerance} ULP of {self.dtype.name}"
        lines = [
            f"{'ok' if self.ok else 'NOT OK'}: {self.wrong:,} of {self.count:,} elements "
            f"({percent(self.wrong, self.count)}) are off by more than {unit}",
            f"  largest error {self.max_ulp:,} ULP, relative {self.max_relative:.3g}, "
            f"absolute {self.max_absolute:.3g}; {self.different:,} elements differ",
        ]
        if self.not_finite:
            lines.append(
                f"  {self.not_finite:,} elements differ and are NaN or infinite on at least one side"
            )
        if self.wrong:
            lines.append(f"  where: {self.pattern()}")
        if not self.ok:
            lines.append("  worst:")
            lines += [f"    {_describe(element, self.dtype)}" for element in self.worst]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The contents of `summary` as a dict that can be written as JSON."""
        return {
            "ok": self.ok,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "tolerance_ulp": self.tolerance,
            "count": self.count,
            "different": self.different,
            "wrong": self.wrong,
            "not_finite": self.not_finite,
            "max_ulp": self.max_ulp,
            "max_relative": _json_number(self.max_relative),
            "max_absolute": _json_number(self.max_absolute),
            "histogram": [
                {"ulp": label, "count": int(n)}
                for label, n in zip(bucket_labels(), self.histogram, strict=True)
                if n
            ],
            "where": self.pattern(),
            "worst": [
                {
                    key: _json_value(value)
                    for key, value in {**element, "index": list(element["index"])}.items()
                }
                for element in self.worst
            ],
            "shape_mismatch": self.shape_mismatch and [list(s) for s in self.shape_mismatch],
        }

    def plot(self, path: str | PathLike[str] | IO[bytes], format: str | None = None) -> None:
        """Writes a figure to `path` (.png, .svg, .pdf): an error histogram and maps of the wrong elements.

        `path` may be an open binary file, of which `format` ("png", "svg", "pdf") then tells the kind. Needs
        matplotlib. Raises ImportError without it.
        """
        from mseloss.report.plot import plot

        plot(self, path, format)

    def __repr__(self) -> str:
        return f"<mseloss.Report\n{self.summary()}\n>"


def _whole(value, expected, most=None):
    if isinstance(value, (int, np.integer)) and value >= 0 and (most is None or value <= most):
        return int(value)
    raise ValueError(f"{expected} from 0 {'on' if most is None else f'to {most}'}, got {value!r}")


def _operands(inputs, shape):
    """The arrays of `inputs`, broadcast to `shape`."""
    if inputs is None:
        return {}
    if not isinstance(inputs, dict):
        raise TypeError(f"inputs: expected a dict of name to array, got {type(inputs).__name__}")
    result = {}
    for name, array in inputs.items():
        array = _floats(array, name)
        try:
            result[name] = np.broadcast_to(array, shape)
        except ValueError:
            raise ValueError(
                f"{name}: expected a shape that broadcasts to {shape}, got {array.shape}"
            ) from None
    return result


def _floats(array, name):
    array = asnumpy(array, name) if not isinstance(array, (int, float, list)) else np.asarray(array)
    if array.dtype.name not in NAMES:
        raise TypeError(f"{name}: expected {EXPECTED}, got {array.dtype}")
    return array


def _describe(element, dtype):
    digits = {"float64": 17, "float32": 9}.get(dtype.name, 5)
    given = ", ".join(f"{name} {value:.{digits}g}" for name, value in element["inputs"].items())
    ulp = "not finite" if element["ulp"] == math.inf else f"{element['ulp']:,} ULP"
    return (
        f"{element['index']}: {element['actual']:.{digits}g}, expected {element['expected']:.{digits}g} "
        f"({ulp}, relative {element['relative']:.3g})" + (f" from {given}" if given else "")
    )


def _json_number(value):
    return value if math.isfinite(value) else str(value)


def _json_value(value):
    if isinstance(value, dict):
        return {key: _json_value(v) for key, v in value.items()}
    return _json_number(value) if isinstance(value, float) else value
