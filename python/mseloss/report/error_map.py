"""Where the wrong elements are: a coarse map, and the pattern in their indices as text."""

from __future__ import annotations

import math

import numpy as np

from mseloss.report.text import ordinal, percent

_KEPT = 1 << 20  # wrong elements whose place is remembered, for the map at full resolution
_MAP = 256  # cells of the map along each side, at most
_FOLD = 256  # residues counted along each axis


class ErrorMap:
    """Counts wrong elements by place: cells of a coarse map, residues of indices, the first ones exactly."""

    def __init__(self, shape):
        self.rows, self.columns = _as_rows(shape)
        self.row_step = max(1, -(-self.rows // _MAP))
        self.column_step = max(1, -(-self.columns // _MAP))
        cells = (-(-self.rows // self.row_step), -(-self.columns // self.column_step))
        self.counts = np.zeros(cells, np.int64)
        self.peaks = np.zeros(cells, np.uint64)
        self.residues = np.zeros((2, _FOLD), np.int64)
        self.axes = [_Axis(self.rows), _Axis(self.columns)]
        self.flat = _Axis(math.prod(shape))
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
            parts.append(f"every {ordinal(self.flat.step)} element from {self.flat.low} on")
        text = " and ".join(parts) or self._mostly("row") or self._scattered()
        if len(shape) > 2:
            text += f" (of the tensor seen as {self.rows:,} rows of {self.columns:,} columns)"
        return text

    def _scattered(self):
        return (
            f"scattered over {percent(np.count_nonzero(self.counts), self.counts.size)} of the map"
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
            share = percent(int(before[stop] - before[start]), int(before[-1]))
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
            return f"every {ordinal(self.step)} {name}: {self.low}, {self.low + self.step}, ..."
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
                    f"every {ordinal(fold)} {name} from {int(share.argmax())} on "
                    f"({percent(int(share.max()), self.count)} of them)"
                )
        return ""


def _as_rows(shape):
    """The shape of the map: rows of the last axis; a vector is folded into about as many rows as columns."""
    size = math.prod(shape)
    if len(shape) > 1 and shape[-1] > 0:
        return max(size // shape[-1], 1), shape[-1]
    if size <= 1024:
        return 1, max(size, 1)
    columns = 1 << (size.bit_length() // 2)
    return -(-size // columns), columns
