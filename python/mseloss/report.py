"""Is a result right, by how much is it off, and where: what `mseloss.compare` and `mseloss check` say."""

from __future__ import annotations

import math

import numpy as np

from mseloss._core import asnumpy

__all__ = ["Report", "compare"]

_DTYPES = ("float32", "float16", "bfloat16", "float64")
_CHUNK = 1 << 20  # elements compared at a time
_KEPT = 1 << 20  # wrong elements whose place is remembered, for the map at full resolution
_MAP = 256  # cells of the map along each side, at most
_FOLD = 256  # residues counted along each axis


def compare(actual, expected, *, tolerance=1, worst=10, inputs=None):
    """Compares `actual` with `expected` and reports how far it is off, how often and where.

    Args:
        actual, expected: arrays of one shape, of float32, float16, bfloat16 or float64, of any kind that
            `mseloss.grad` takes. `expected` is rounded to the dtype of `actual` first.
        tolerance: units in the last place of `actual`'s dtype that an element may be off. NaN equals NaN; an
            infinity equals only itself.
        worst: how many of the worst elements to list.
        inputs: a dict of name to array that broadcasts to the shape, listed beside the worst elements.

    Returns a `Report`. A shape mismatch is a report that is not ok. Raises TypeError for other dtypes.

    >>> report = mseloss.compare(result, mseloss.reference.grad(g, x, y))
    >>> assert report.ok, report.summary()
    """
    actual, expected = _floats(actual, "actual"), _floats(expected, "expected")
    inputs = {name: _floats(array, name) for name, array in (inputs or {}).items()}
    report = Report(actual.shape, actual.dtype, tolerance=tolerance, worst=worst)
    if actual.shape != expected.shape:
        report.shape_mismatch = (actual.shape, expected.shape)
        return report
    inputs = {name: np.broadcast_to(array, actual.shape) for name, array in inputs.items()}
    for index in pieces(actual.shape, _CHUNK):
        report.add(
            index,
            actual[index],
            expected[index],
            {name: array[index] for name, array in inputs.items()},
        )
    return report


class Report:
    """How an array differs from what was expected. Made by `compare`, or piece by piece with `add`.

    Attributes:
        ok: every element is within the tolerance, and the shapes agree.
        count, different, wrong: elements compared, not equal, beyond the tolerance.
        max_ulp, max_relative, max_absolute: the largest errors among finite elements.
        not_finite: elements where just one is NaN or infinite, or the signs of infinity differ.
        worst: the worst elements, a list of dicts (index, actual, expected, ulp, relative, inputs).
        shape_mismatch: the two shapes where they differ, else None.
    """

    def __init__(self, shape, dtype, *, tolerance=1, worst=10):
        if not (isinstance(tolerance, (int, np.integer)) and tolerance >= 0):
            raise ValueError(
                f"tolerance: expected a whole number of ULP from 0 on, got {tolerance!r}"
            )
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.tolerance = int(tolerance)
        self.shape_mismatch = None
        self.count = self.different = self.wrong = self.not_finite = 0
        self.max_ulp, self.max_relative, self.max_absolute = 0, 0.0, 0.0
        self.histogram = np.zeros(
            66, np.int64
        )  # of ULP: 0, 1, 2-3, 4-7, ... 2^63 on; last not finite
        self.worst = []
        self._keep = worst
        self._where = _Where(_as_rows(self.shape), math.prod(self.shape))
        self._strides = [math.prod(self.shape[i + 1 :]) for i in range(len(self.shape))]

    @property
    def ok(self):
        return self.shape_mismatch is None and self.wrong == 0

    def add(self, index, actual, expected, inputs=None):
        """Adds the piece at `index`, as `pieces` yields it: integers, then at most one slice."""
        size = actual.size
        if size == 0:
            return
        a = np.ascontiguousarray(actual).reshape(-1)
        e = to_dtype(np.ascontiguousarray(expected).reshape(-1), self.dtype)
        start = sum(
            (i.start or 0 if isinstance(i, slice) else i) * s
            for i, s in zip(index, self._strides, strict=False)
        )
        self.count += size
        if a.tobytes() == e.tobytes():
            self.histogram[0] += size
            return
        ulp, mixed = ulp_distance(a, e)
        unequal = np.flatnonzero(ulp)
        self.histogram[0] += size - unequal.size
        if unequal.size == 0:
            return
        u, bad = ulp[unequal], mixed[unequal]
        self.different += unequal.size
        self.not_finite += int(bad.sum())
        bucket = np.where(bad, 65, _bit_length(u))
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
        self._where.add(start + unequal[wrong], u[wrong])
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

    def pattern(self):
        """One sentence on where the wrong elements are ("every 16th row: 3, 19, ..."), or "" without any."""
        return self._where.describe(self.shape) if self.wrong else ""

    def summary(self):
        """A few lines: the verdict, the errors, where they are, and the worst elements."""
        if self.shape_mismatch:
            return "NOT OK: shapes differ: actual {}, expected {}".format(*self.shape_mismatch)
        unit = f"{self.tolerance} ULP of {self.dtype.name}"
        lines = [
            f"{'ok' if self.ok else 'NOT OK'}: {self.wrong:,} of {self.count:,} elements "
            f"({_percent(self.wrong, self.count)}) are off by more than {unit}",
            f"  largest error {self.max_ulp:,} ULP, relative {self.max_relative:.3g}, "
            f"absolute {self.max_absolute:.3g}; {self.different:,} elements differ at all",
        ]
        if self.not_finite:
            lines.append(f"  {self.not_finite:,} elements are NaN or infinite on one side only")
        if self.wrong:
            lines.append(f"  where: {self.pattern()}")
        if not self.ok:
            lines.append("  worst:")
            lines += [f"    {_describe(element, self.dtype)}" for element in self.worst]
        return "\n".join(lines)

    def to_dict(self):
        """What `summary` says, for machines: plain numbers, strings and lists."""
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

    def plot(self, path):
        """Writes a picture to `path` (.png, .svg, .pdf): an error histogram and maps of where it is wrong.

        Needs matplotlib. Raises ImportError without it.
        """
        from mseloss.report_plot import plot

        plot(self, path)

    def __repr__(self):
        return f"<mseloss.Report\n{self.summary()}\n>"


class _Where:
    """Counts wrong elements by place: cells of a coarse map, residues of indices, the first ones exactly."""

    def __init__(self, shape, size):
        self.rows, self.columns = shape
        self.row_step = max(1, -(-self.rows // _MAP))
        self.column_step = max(1, -(-self.columns // _MAP))
        cells = (-(-self.rows // self.row_step), -(-self.columns // self.column_step))
        self.counts = np.zeros(cells, np.int64)
        self.peaks = np.zeros(cells, np.uint64)
        self.residues = np.zeros((2, _FOLD), np.int64)
        self.axes = [_Axis(self.rows), _Axis(self.columns)]
        self.flat = _Axis(size)
        self.first, self.first_ulp, self._stored = [], [], 0

    def add(self, flat, ulp):
        if flat.size == 0:
            return
        row, column = flat // self.columns, flat % self.columns
        cell = (row // self.row_step, column // self.column_step)
        np.add.at(self.counts, cell, 1)
        np.maximum.at(self.peaks, cell, ulp)
        for axis, at, residues in zip(self.axes, (row, column), self.residues, strict=True):
            axis.add(at)
            residues += np.bincount(at % _FOLD, minlength=_FOLD)
        self.flat.add(flat)
        if self._stored < _KEPT:
            self.first.append(flat[: _KEPT - self._stored])
            self.first_ulp.append(ulp[: _KEPT - self._stored])
            self._stored += self.first[-1].size

    def remembered(self):
        """Flat indices and ULP of the first wrong elements."""
        if not self.first:
            return np.zeros(0, np.int64), np.zeros(0, np.uint64)
        return np.concatenate(self.first), np.concatenate(self.first_ulp)

    def describe(self, shape):
        total = self.flat.count
        size = self.flat.extent
        if total == size:
            return "everywhere"
        if total == 1:
            return f"one element, {tuple(int(i) for i in np.unravel_index(self.flat.low, shape))}"
        parts = []
        tail = size - self.flat.low
        if len(shape) > 1 and total == tail and tail % self.columns:
            return f"the last {tail:,} elements in memory order"
        if len(shape) == 1:
            return (
                self.flat.describe("element", None) or self._mostly("element") or self._scattered()
            )
        for name, axis, residues in zip(("row", "column"), self.axes, self.residues, strict=True):
            text = axis.describe(name, residues)
            if text:
                parts.append(text)
        if not parts and tail < size / 2 and total >= 0.5 * tail:
            parts.append(f"the last {tail:,} elements in memory order")
        if not parts and self.flat.high < size / 2 and total >= 0.5 * (self.flat.high + 1):
            parts.append(f"the first {self.flat.high + 1:,} elements in memory order")
        if not parts and self.flat.step > 1:
            parts.append(f"every {_ordinal(self.flat.step)} element from {self.flat.low} on")
        text = " and ".join(parts) or self._mostly("row") or self._scattered()
        if len(shape) > 2:
            text += f" (of the tensor seen as {self.rows:,} rows of {self.columns:,} columns)"
        return text

    def _scattered(self):
        return (
            f"scattered over {_percent(np.count_nonzero(self.counts), self.counts.size)} of the map"
        )

    def _mostly(self, name):
        """A short stretch of rows or columns that holds nearly all, if there is one."""
        best = []
        for axis, step in ((0, self.row_step), (1, self.column_step)):
            if name == "element" and axis == 1 and self.rows > 1:
                continue
            cells = self.counts.sum(1 - axis)
            before = np.concatenate([[0], np.cumsum(cells)])
            ends = np.searchsorted(before, before[:-1] + 0.95 * before[-1])
            ends = np.where(ends > cells.size, 2 * cells.size, ends)
            lengths = ends - np.arange(cells.size)
            start = int(lengths.argmin())
            stop = start + int(lengths[start])
            if stop - start > cells.size / 4:
                continue
            extent = (self.rows, self.columns)[axis]
            low, high = start * step, min(stop * step, extent) - 1
            unit = ("row", "column")[axis]
            if name == "element":
                unit, low, high = name, low * self.columns, (high + 1) * self.columns - 1
                high = min(high, self.flat.extent - 1)
            share = _percent(int(before[stop] - before[start]), int(before[-1]))
            best.append(f"{unit}s {low:,} to {high:,} ({share} of them)")
        return " and ".join(best)


class _Axis:
    """The wrong indices along one axis: how many, from where to where, in which steps."""

    def __init__(self, extent):
        self.extent, self.count, self.low, self.high, self.step = extent, 0, extent, -1, 0

    def add(self, at):
        base = self.low if self.count else int(at[0])
        self.step = math.gcd(self.step, int(np.gcd.reduce(np.abs(at - base))))
        self.low, self.high = min(self.low, int(at.min())), max(self.high, int(at.max()))
        self.count += at.size

    def describe(self, name, residues):
        if self.extent == 1:
            return ""
        if self.low == self.high:
            return f"{name} {self.low:,}"
        if self.step > 1:
            return f"every {_ordinal(self.step)} {name}: {self.low}, {self.low + self.step}, ..."
        if self.high == self.extent - 1 and self.low > self.extent / 2:
            return f"the last {self.extent - self.low:,} {name}s"
        if self.low == 0 and self.high < self.extent / 2:
            return f"the first {self.high + 1:,} {name}s"
        if self.high - self.low < self.extent / 2:
            return f"{name}s {self.low:,} to {self.high:,}"
        for fold in (
            () if residues is None else (_FOLD >> i for i in range(8))
        ):  # a period with a few strays
            share = residues.reshape(-1, fold).sum(0)
            if fold < self.extent and share.max() >= max(0.9 * self.count, 4):
                return (
                    f"every {_ordinal(fold)} {name} from {int(share.argmax())} on "
                    f"({_percent(int(share.max()), self.count)} of them)"
                )
        return ""


def pieces(shape, limit):
    """Indices that cut `shape` into consecutive pieces of up to `limit` elements: integers, then a slice."""
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    if inner > limit:
        for i in range(shape[0]):
            for rest in pieces(shape[1:], limit):
                yield (i, *rest)
        return
    step = max(1, limit // max(inner, 1))
    for start in range(0, shape[0], step):
        yield (slice(start, min(start + step, shape[0])),)


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


def to_dtype(array, dtype):
    from mseloss.reference import _convert

    return array if array.dtype == dtype else _convert(array, dtype)


def bucket_labels():
    """What the buckets of `Report.histogram` hold, in ULP."""
    labels = ["0", "1"] + [f"{1 << i}-{(2 << i) - 1}" for i in range(1, 64)]
    return [*labels, "not finite"]


def _floats(array, name):
    array = asnumpy(array, name) if not isinstance(array, (int, float, list)) else np.asarray(array)
    if array.dtype.name not in _DTYPES:
        raise TypeError(
            f"{name}: expected float32, float16, bfloat16 or float64, got {array.dtype}"
        )
    return array


def _as_rows(shape):
    """The shape of the map: rows of the last axis; a vector is folded into about as many rows as columns."""
    size = math.prod(shape)
    if len(shape) > 1 and shape[-1] > 0:
        return max(size // shape[-1], 1), shape[-1]
    if size <= 1024:
        return 1, max(size, 1)
    columns = 1 << (size.bit_length() // 2)
    return -(-size // columns), columns


def _bit_length(values):
    # frexp is exact below 2^53; above, rounding up to the next power of two is undone.
    exponent = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    too_big = (exponent > 0) & (
        values < (np.uint64(1) << np.clip(exponent - 1, 0, 63).astype(np.uint64))
    )
    return np.minimum(exponent - too_big, 64)


def _percent(part, whole):
    if whole == 0 or part == 0:
        return "0 %"
    share = 100 * part / whole
    if part != whole and share > 99:
        return f"{share:.6g} %"
    return f"{share:.3g} %" if share >= 10 else f"{share:.2g} %"


def _ordinal(n):
    suffix = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


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
