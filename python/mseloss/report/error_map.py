"""Where the wrong elements are: a coarse map, and a description of the pattern of their indices."""

from __future__ import annotations

import math

import numpy as np

from mseloss.report.text import ordinal, percent

_MAX_STORED = 1 << 20  # wrong elements whose exact places are kept, for the close-up
_MAX_CELLS = 256  # along each side of the map
_PERIOD = 256  # indices are counted modulo this, along each axis


class ErrorMap:
    """The positions of the wrong elements in the array viewed as a matrix of `rows` x `columns`.

    Attributes:
        counts: wrong elements per cell of row_step x column_step elements.
        residues: wrong elements by row index and by column index modulo 256.
        axes, flat: range and step of the row, column and flat indices.
    """

    def __init__(self, shape):
        self.rows, self.columns = _as_rows(shape)
        self.row_step = max(1, -(-self.rows // _MAX_CELLS))
        self.column_step = max(1, -(-self.columns // _MAX_CELLS))
        cells = (-(-self.rows // self.row_step), -(-self.columns // self.column_step))
        self.counts = np.zeros(cells, np.int64)
        self.residues = np.zeros((2, _PERIOD), np.int64)
        self.axes = [_Axis(self.rows), _Axis(self.columns)]
        self.flat = _Axis(math.prod(shape))
        self._stored, self._stored_count = [], 0

    def add(self, flat):
        """Adds wrong elements by their flat indices, in ascending order."""
        if flat.size == 0:
            return
        row, column = flat // self.columns, flat % self.columns
        cell = (row // self.row_step, column // self.column_step)
        np.add.at(self.counts, cell, 1)
        for axis, at, residues in zip(self.axes, (row, column), self.residues, strict=True):
            axis.add(at)
            residues += np.bincount(at % _PERIOD, minlength=_PERIOD)
        self.flat.add(flat)
        if self._stored_count < _MAX_STORED:
            self._stored.append(flat[: _MAX_STORED - self._stored_count])
            self._stored_count += self._stored[-1].size

    def stored(self):
        """Flat indices of the first wrong elements, at most 2^20."""
        return np.concatenate([np.zeros(0, np.int64), *self._stored])

    def describe(self, shape):
        """The pattern of the wrong elements, of which there is at least one, in a few words."""
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
        """A short range of rows, columns or elements that holds 95 % of the wrong elements, else ""."""
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
    """The wrong indices along one axis: their count, range and common step."""

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
        # A period that at least 90 % of the indices follow.
        for period in () if residues is None else (_PERIOD >> i for i in range(8)):
            counts = residues.reshape(-1, period).sum(0)
            if period < self.extent and counts.max() >= max(0.9 * self.count, 4):
                return (
                    f"every {ordinal(period)} {name} from {int(counts.argmax())} on "
                    f"({percent(int(counts.max()), self.count)} of them)"
                )
        return ""


def _as_rows(shape):
    """The map's shape: rows of the last dimension; a vector is split into about as many rows as columns."""
    size = math.prod(shape)
    if len(shape) > 1 and shape[-1] > 0:
        return max(size // shape[-1], 1), shape[-1]
    if size <= 1024:
        return 1, max(size, 1)
    columns = 1 << (size.bit_length() // 2)
    return -(-size // columns), columns
