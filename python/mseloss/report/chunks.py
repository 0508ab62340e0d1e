"""Splits an array into chunks, so that arrays larger than memory can be processed."""

from __future__ import annotations

import math


def chunks(shape, limit):
    """Yields indices of consecutive chunks of at most `limit` elements: each is some integers, then a slice.

    A row of the last dimension is split if it is longer than `limit`; shape () yields one empty index.
    """
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    if inner > limit:
        for i in range(shape[0]):
            for rest in chunks(shape[1:], limit):
                yield (i, *rest)
        return
    step = max(1, limit // max(inner, 1))
    for start in range(0, shape[0], step):
        yield (slice(start, min(start + step, shape[0])),)
