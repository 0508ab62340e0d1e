"""Which elements a mean includes."""

from __future__ import annotations

import numpy as np


def without_nan(x, y, weight):
    """The operands with a weight that leaves out the elements where an operand is NaN."""
    valid = ~(np.isnan(x) | np.isnan(y))
    masked = weight is None or weight.dtype == bool
    if not masked:
        valid = valid & ~np.isnan(weight)
    if valid.all():
        return x, y, weight
    if masked:
        return x, y, valid if weight is None else valid & weight
    # A weight of 0 times NaN is NaN, so the elements that are left out become 0 too: they add exact zeros.
    return tuple(np.where(valid, a, np.zeros((), a.dtype)) for a in (x, y, weight))
