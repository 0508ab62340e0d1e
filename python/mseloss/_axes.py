"""Checks of the arguments `axis` and `keepdims`."""

from __future__ import annotations

import operator


def check_elementwise(axis, keepdims):
    """Raises ValueError for what reduction "none" does not have."""
    if axis is not None:
        raise ValueError(f"axis: expected None for reduction 'none', got {axis!r}")
    if keepdims:
        raise ValueError("keepdims: expected False for reduction 'none', got True")


def reduced_axes(axis, rank):
    """`axis`, an integer, several, or None for all, as a tuple of dimensions from 0 on."""
    if axis is None:
        return tuple(range(rank))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    try:
        found = [operator.index(one) for one in given]
    except TypeError:
        raise TypeError(
            f"axis: expected None, an integer or a tuple of integers, got {axis!r}"
        ) from None
    if any(not -rank <= one < rank for one in found):
        raise ValueError(f"axis: expected dimensions of an array of rank {rank}, got {axis!r}")
    found = [one % rank for one in found]
    if len(set(found)) != len(found):
        raise ValueError(f"axis: expected each dimension at most once, got {axis!r}")
    return tuple(found)
