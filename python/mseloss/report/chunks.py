"""Cuts an array into chunks, so that arrays larger than memory can be processed."""

from __future__ import annotations

import math


def chunks(shape, limit):
    """Indices that cut `shape` into consecutive pieces of up to `limit` elements: integers, then a slice."""
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
