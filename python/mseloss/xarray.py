"""The mean squared error of labelled arrays, with the signature of xskillscore's `mse`.

Each result is the exact weighted mean, rounded once, and has the same bits whether the data are NumPy or Dask
arrays and however these are chunked. Neither xskillscore nor, for NumPy data, Dask is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np
import xarray as xr

import mseloss
from mseloss._dtypes import NAMES
from mseloss._rounding import promote
from mseloss._selection import without_nan

__all__ = ["mse"]


_Data = TypeVar("_Data", xr.DataArray, xr.Dataset)


def mse(
    a: _Data,
    b: _Data,
    dim: Hashable | Iterable[Hashable] | None = None,
    weights: xr.DataArray | xr.Dataset | None = None,
    skipna: bool = False,
    keep_attrs: bool = False,
) -> _Data:
    """The mean of (a - b)**2, or sum(weights * (a - b)**2) / sum(weights), over some dimensions.

    Args:
        a, b: xarray.DataArray or xarray.Dataset of NumPy or Dask arrays. float32, float16, bfloat16 and
            float64 keep their dtype; other numbers are read as float64.
        dim: the name of a dimension, or several, to reduce; by default all. Dask arrays may have several
            chunks along it.
        weights: None, or a DataArray or Dataset that broadcasts with both, of numbers or of bool (a mask).
            Weights wider than the data make the result as wide.
        skipna: whether to leave out the elements of which a, b or the weight is NaN. If nothing remains, the
            mean is NaN.
        keep_attrs: whether the result has the attributes of `a`.

    Returns a DataArray or, if an argument is a Dataset, a Dataset; lazy if the data are Dask arrays. Raises
    ValueError for coordinates or sizes that differ and for unknown names in `dim`, and TypeError for
    arguments of other types and data that are not real numbers.

    >>> mseloss.xarray.mse(forecast, observation, dim="time")
    """
    given = {"a": a, "b": b} if weights is None else {"a": a, "b": b, "weights": weights}
    for name, value in given.items():
        if not isinstance(value, (xr.DataArray, xr.Dataset)):
            raise TypeError(
                f"{name}: expected an xarray.DataArray or Dataset, got {type(value).__name__}"
            )
    try:
        aligned = xr.align(*given.values(), join="exact", copy=False)
    except ValueError as error:
        names = ", ".join(given)
        raise ValueError(f"{names}: expected equal coordinates and sizes: {error}") from None
    operands = xr.broadcast(*aligned)
    dims = list(dict.fromkeys(d for operand in operands for d in operand.dims))
    reduced = dims if dim is None else [dim] if isinstance(dim, str) or dim in dims else list(dim)
    unknown = [d for d in reduced if d not in dims]
    if unknown:
        raise ValueError(f"dim: expected dimensions among {dims}, got {unknown[0]!r}")
    reduced = [d for d in dims if d in reduced]
    return xr.apply_ufunc(
        _loss,
        *operands,
        input_core_dims=[reduced] * len(operands),
        kwargs={"reduced": len(reduced), "skipna": skipna},
        dask="allowed",
        join="exact",
        dataset_join="exact",
        keep_attrs="override" if keep_attrs else "drop",
    )


def _loss(x, y, weight=None, *, reduced, skipna):
    """The loss over the last `reduced` dimensions of NumPy or Dask arrays."""
    x, y = _floating(x, "a"), _floating(y, "b")
    if weight is not None and weight.dtype != bool:
        weight = _floating(weight, "weights")
        if promote(promote(x.dtype, y.dtype), weight.dtype) != promote(x.dtype, y.dtype):
            x = x.astype(weight.dtype)
    axis = tuple(range(x.ndim - reduced, x.ndim))
    dask = sys.modules.get("dask.array")
    if dask is not None and any(isinstance(v, dask.Array) for v in (x, y, weight)):
        from mseloss.dask import loss

        return loss(x, y, weight=weight, axis=axis, skipna=skipna)
    if skipna:
        x, y, weight = without_nan(x, y, weight)
    return mseloss.loss(x, y, weight=weight, axis=axis)


def _floating(array, name):
    if array.dtype.name in NAMES:
        return array
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    return array.astype(np.float64)
