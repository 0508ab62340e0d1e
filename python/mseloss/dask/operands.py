"""The operands of one call: checked, aligned and passed to functions chunk by chunk."""

from __future__ import annotations

import math
from functools import partial

import dask.array as da
import numpy as np

from mseloss import _rounding
from mseloss._dtypes import native_dtype
from mseloss.dask import chunk

_MERGED = 16  # partial sums that one task merges
# The same for those of slices, which may be larger than the chunks they come from.
_MERGED_SLICES = 2


class Operands:
    """Dask arrays, or a number's NumPy array, by their parameters' names.

    `beside` names an operand that broadcasts to the loss and is not part of the broadcast shape.
    """

    def __init__(self, given, beside=None):
        given = {name: value for name, value in given.items() if value is not None}
        lazy = any(isinstance(value, da.Array) for value in given.values())
        self.arrays = {name: _array(value, name, given, lazy) for name, value in given.items()}
        self._beside = beside
        self.shape = self._broadcast()
        self._kept = ()  # dimensions of the loss, set by check_beside()

    @property
    def rank(self):
        return len(self.shape)

    def empty(self, name):
        """A NumPy array of an operand's dtype and rank, without elements if it has dimensions, or None.

        The operators check dtypes, ranks and options on such arrays before anything is computed.
        """
        array = self.arrays.get(name)
        return None if array is None else np.zeros((0,) * array.ndim, native_dtype(array))

    def are_whole(self, axes):
        """Whether no operand has several chunks along the dimensions `axes`."""
        return all(
            array.numblocks[axis - self.rank] == 1
            for array in self._lazy()
            for axis in axes
            if axis >= self.rank - array.ndim
        )

    def with_whole(self, axes):
        """The operands with one chunk along each of the dimensions `axes`; smaller ones along the others."""
        if not self.are_whole(axes):
            for name, array in self.arrays.items():
                if name != self._beside:
                    first = self.rank - array.ndim
                    chunks = {d: -1 if d + first in axes else "auto" for d in range(array.ndim)}
                    self.arrays[name] = array.rechunk(chunks)
        return self

    def blockwise(
        self,
        function,
        dtype,
        *,
        of=None,
        scale=None,
        reduced=(),
        keepdims=False,
        ones=(),
        without=None,
    ):
        """function(chunks of the operands, of `scale`), or function(chunks of `of`), as a Dask array.

        Its chunks are those of the broadcast shape. The dimensions `reduced` have one chunk and are removed,
        or have extent 1 with `keepdims`. In the dimensions `ones` each chunk gives one element. `without`
        names an operand that the function does not take.
        """
        whole = tuple(range(self.rank))
        kept = tuple(d for d in whole if d not in reduced)
        pairs = []
        for name, array in self.arrays.items() if of is None else [("", of)]:
            if name == without:
                continue
            if isinstance(array, np.ndarray):  # a number
                pairs += [array, None]
            else:
                axes = self._kept if name == self._beside else whole
                pairs += [array, axes[len(axes) - array.ndim :]]
        if scale is not None:
            pairs += [scale, ()]
        out = whole if keepdims else kept
        return da.blockwise(
            function,
            out,
            *pairs,
            dtype=dtype,
            meta=np.empty((0,) * len(out), dtype),
            adjust_chunks=dict.fromkeys((d for d in (*ones, *reduced) if d in out), 1),
            concatenate=True if of is None else None,
            token=f"mseloss-{getattr(function, 'func', function).__name__}",
        )

    def check_beside(self, axes):
        """Raises ValueError unless the operand beside the others broadcasts to the loss over `axes`."""
        self._kept = tuple(d for d in range(self.rank) if d not in axes)
        if self._beside is None:
            return
        given = self.arrays[self._beside].shape
        loss = tuple(self.shape[d] for d in self._kept)
        last = loss[len(loss) - len(given) :]
        if len(given) > len(loss) or any(g not in (1, n) for g, n in zip(given, last, strict=True)):
            raise ValueError(
                f"{self._beside}: expected a shape that broadcasts to the loss, {loss}, got {given}"
            )

    def sums(self, function, of=None, axes=None):
        """function(chunks), partial sums over `axes`, as a Dask array of one object for each chunk.

        The operand beside the others is no part of a sum.
        """
        ones = range(self.rank) if axes is None else axes
        return self.blockwise(function, object, of=of, ones=ones, without=self._beside)

    def _lazy(self):
        """The Dask arrays that have the dimensions of the broadcast shape."""
        return [a for n, a in self.arrays.items() if n != self._beside and isinstance(a, da.Array)]

    def _broadcast(self):
        shape, names = (), []
        for name, array in self.arrays.items():
            if any(math.isnan(n) for n in array.shape):
                raise ValueError(
                    f"{name}: expected known chunk sizes, got shape {array.shape}; "
                    "call its compute_chunk_sizes() first"
                )
            if name == self._beside:
                continue
            try:
                shape = np.broadcast_shapes(shape, array.shape)
            except ValueError:
                raise ValueError(
                    f"{name}: expected a shape that broadcasts with {' and '.join(names)}, "
                    f"{shape}, got {array.shape}"
                ) from None
            if array.ndim > 0:
                names.append(name)
        return shape


def finished(parts, exact_parts, finish, dtype, keepdims=False):
    """finish(partial sums), or if they leave the rounding undecided, finish(exact partial sums)."""
    exact = tree(exact_parts, chunk.merge, finish, dtype, keepdims)
    return tree(parts, chunk.merge, partial(finish, exact=exact), dtype, keepdims)


def tree(parts, merge, finish, dtype, keepdims, axes=None):
    """Merges partial sums along `axes` in a tree, and passes the last ones to `finish`."""
    left = parts.ndim if keepdims else 0 if axes is None else parts.ndim - len(axes)
    return da.reduction(
        parts,
        chunk=chunk.itself,
        combine=merge,
        aggregate=finish,
        axis=axes,
        concatenate=False,
        keepdims=keepdims,
        split_every=_MERGED if axes is None else dict.fromkeys(axes, _MERGED_SLICES),
        dtype=object,
        meta=np.empty((0,) * left, dtype),
    )


def _array(value, name, given, lazy):
    if isinstance(value, da.Array):
        return value
    number = isinstance(value, (int, float, np.integer)) and not isinstance(value, np.floating)
    if number and name == "grad_output":
        dtype = getattr(given["input"], "dtype", np.dtype(float)).newbyteorder("=")
        return np.asarray(_rounding.round_number(value, dtype), dtype)
    array = np.asanyarray(value)
    return da.from_array(array, chunks=-1 if lazy else "auto")
