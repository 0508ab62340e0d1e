"""Sums over processes: each encodes its PartialSum as digits, which any all-reduce of integers adds."""

from __future__ import annotations

import numpy as np

from mseloss._core import PartialSum


class Exchange:
    """The sums of all processes of a group, which all call the same methods in the same order.

    all_reduce(digits) returns the elementwise integer sum over the group, in place or as a new array. If one
    process fails, all raise an exception: it its own, the others RuntimeError.
    """

    def __init__(self, all_reduce, processes, dtype):
        self._all_reduce = all_reduce
        self._processes = processes
        self._dtype = dtype  # to which input and target promote

    def total(self, add, exact):
        """The sum of all processes' parts, to which add(part, exact) adds."""
        part = PartialSum()
        try:
            add(part, exact)
            digits = part.digits(self._dtype)
        except BaseException:
            self.fail()
            raise
        digits = self._all_reduce(digits)
        # The first element counts the arrays that were added; a process that has failed adds zeros.
        if digits[0] != self._processes and self._processes <= 32767:
            failed = self._processes - int(digits[0])
            raise RuntimeError(
                f"group: expected all {self._processes} processes to succeed, got an error on {failed}"
            )
        return PartialSum.from_digits(digits)

    def until_decided(self, add, finish):
        """finish(total) from fast sums or, if that is None, in all processes alike, from exact ones."""
        value = finish(self.total(add, exact=False))
        return finish(self.total(add, exact=True)) if value is None else value

    def fail(self):
        """Takes part in place of total() and makes it raise RuntimeError in the other processes."""
        self._all_reduce(np.zeros_like(PartialSum().digits(self._dtype)))

    def loss(self, x, y, w, reduction, dtype):
        def add(part, exact):
            _check(reduction)
            part.add(x, y, weight=w, exact=exact)

        return self.until_decided(add, lambda total: total.finish(reduction, dtype))

    def scale(self, x, y, w, reduction):
        """The factor of the gradient, for which the weights are summed first."""

        def add(part, exact):
            _check(reduction)
            part.add_divisor(x, y, weight=w, exact=exact)

        if isinstance(reduction, str) and reduction == "sum":
            return 2.0
        return self.until_decided(add, lambda total: total.scale(reduction, self._dtype))


def _check(reduction):
    if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
